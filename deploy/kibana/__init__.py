"""The Kibana dashboards of the registry, generated; README.md says how to import and change them."""
