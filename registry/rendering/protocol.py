"""What the service and its worker processes exchange. The service doesn't load the parsers."""

from typing_extensions import TypedDict

LENGTH_BYTES = 4
"""Requests and answers are JSON with its length in so many bytes in front, big-endian."""

WORK = ("markdown", "highlight", "difference", "replacement")
"""What a worker process can do; `registry.rendering.worker` has the functions."""

MAX_COLOURED = 256 * 1024
"""How many characters of source code are coloured."""


class Target(TypedDict):
    """Where a relative link leads. `href` is None if it leads nowhere, `src` is None if it is no picture to show."""

    href: str | None
    src: str | None


class Rendered(TypedDict):
    """Rendered Markdown. `html` is None if the text must be shown as plain text.

    `asked` lists the relative targets of links and pictures whose addresses were not given. Render again with them.
    """

    html: str | None
    asked: list[str]
