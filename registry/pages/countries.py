"""Names of countries in English."""

from functools import cache

from babel import Locale


@cache
def _names() -> dict[str, str]:
    return dict(Locale("en").territories)


def country(code: str) -> str:
    """The name of a country by its code of two letters; the code itself if it is unknown."""
    return _names().get(code, code)
