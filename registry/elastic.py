"""Opens the Elasticsearch client and turns its errors into ours."""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import orjson
from elasticsearch import ApiError, AsyncElasticsearch, NotFoundError, OrjsonSerializer, TransportError

from registry.elastic_http import KeptNode
from registry.errors import SearchUnavailable
from registry.setting_parts import SearchSettings

log = logging.getLogger(__name__)

BULK_TIMEOUT = 60.0
# The members of a bulk answer that are read. The others are as large as the documents.
_OUTCOMES = ("items.*._id", "items.*.status", "items.*.error")
# HTTP statuses of an Elasticsearch that is overloaded. The same request may succeed later.
BUSY = (429, 503)
# Errors that are about one document. All others are about an index or the cluster, and may be temporary.
_DOCUMENT_ERRORS = frozenset(
    (
        "document_parsing_exception",
        "fail_processor_exception",
        "mapper_parsing_exception",
        "strict_dynamic_mapping_exception",
    )
)
JSON_HEADERS = {"accept": "application/json", "content-type": "application/json"}
AWAY = "The search engine can't be reached. Try again in a few seconds."


class IndexMissing(SearchUnavailable):
    """The index or alias does not exist."""


@asynccontextmanager
async def open_client(settings: SearchSettings) -> AsyncIterator[AsyncElasticsearch | None]:
    """The client, closed at the end of the block; None without an address. It sends no request yet."""
    if not settings.url:
        yield None
        return
    options: dict[str, Any] = {"ca_certs": settings.ca} if settings.ca else {}
    if settings.api_key:
        options["api_key"] = settings.api_key
    elif settings.user:
        options["basic_auth"] = (settings.user, settings.password)
    client = AsyncElasticsearch(
        settings.url,
        request_timeout=settings.timeout.total_seconds(),
        node_class=KeptNode,
        max_retries=0,
        retry_on_timeout=False,
        serializer=OrjsonSerializer(),
        **options,
    )
    try:
        yield client
    finally:
        await client.close()


async def bulk(client: AsyncElasticsearch, lines: Iterable[object], **options: Any) -> list[dict[str, Any]]:
    """Sends the `lines` of a bulk request. Returns `_id`, `status` and perhaps `error` of each document in order.

    Raises SearchUnavailable when Elasticsearch refuses the request as a whole.
    """
    with errors_named():
        # The client accepts serialised lines, as its own helpers send them. Its types don't say so.
        operations: Any = [orjson.dumps(line) for line in lines]
        answer = await client.bulk(operations=operations, filter_path=_OUTCOMES, **options)
    return [next(iter(item.values())) for item in answer["items"]]


def refuses_document(error: Mapping[str, Any]) -> bool:
    """Whether the error of one item of a bulk says that Elasticsearch will never take this document."""
    if error["type"] == "illegal_argument_exception":
        return "immense term" in error["reason"]
    return error["type"] in _DOCUMENT_ERRORS


def reason_of(error: Mapping[str, Any]) -> str:
    """The error of one item of a bulk as one line of text."""
    cause = error.get("caused_by") or {}
    return ": ".join(part for part in (error["type"], error["reason"], cause.get("reason")) if part)


@contextmanager
def errors_named() -> Iterator[None]:
    """Raises IndexMissing for a missing index and SearchUnavailable for every other error of the client."""
    try:
        yield
    except NotFoundError as error:
        raise IndexMissing(f"The search index is missing: {error.message}") from error
    except ApiError as error:
        log.warning("search engine refused a request", extra={"status": error.status_code, "reason": str(error)})
        raise SearchUnavailable("The search engine can't answer now. Try again in a few seconds.") from error
    except TransportError as error:
        log.warning("search engine unavailable", extra={"reason": f"{type(error).__name__}: {error}"})
        raise SearchUnavailable(AWAY) from error
