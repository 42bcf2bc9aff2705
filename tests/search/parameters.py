"""The query parameters of a search request."""

from registry.search.request import DEFAULT_LIMIT, RELEVANCE, SearchRequest
from registry.web.cursor import encode


def parameters_of(request: SearchRequest) -> list[tuple[str, str]]:
    """The parameters that parse to this request. Parameters with their default value are left out."""
    pairs: list[tuple[str, str | None]] = [
        ("q", request.q),
        ("limit", str(request.limit) if request.limit != DEFAULT_LIMIT else None),
        ("offset", str(request.offset) if request.offset else None),
        ("cursor", None if request.after is None else encode(request.sort, request.after)),
        ("sort", request.sort if request.sort != RELEVANCE else None),
        *(("author", value) for value in request.authors),
        *(("license", value) for value in request.licenses),
        *(("keyword", value) for value in request.keywords),
        ("prerelease", None if request.prerelease else "false"),
        ("versions", "all" if request.every_version else None),
        ("facets", "true" if request.facets else None),
        ("min_seq", str(request.min_seq) if request.min_seq else None),
    ]
    return [(name, value) for name, value in pairs if value is not None]
