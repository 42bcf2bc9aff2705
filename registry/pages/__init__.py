"""The web pages. They call the use cases of the other rooms; docs/design.md says how they look and how to add one."""
