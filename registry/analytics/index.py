"""Writes the monthly indices for dashboards. All access of dashboards to Elasticsearch is here."""

import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any, NamedTuple

from elasticsearch import AsyncElasticsearch
from prometheus_client import Counter

import es_mappings
from registry.analytics.documents import DOWNLOADS, EVENTS, KINDS, Document, Place
from registry.elastic import BULK_TIMEOUT, bulk, errors_named, open_client, reason_of, refuses_document
from registry.errors import SearchUnavailable
from registry.setting_parts import SearchSettings

log = logging.getLogger(__name__)

REFUSED = Counter("registry_analytics_documents_refused_total", "Documents for dashboards that Elasticsearch refused")

TEMPLATES = {DOWNLOADS: "downloads", EVENTS: "registry-events"}
_IS_EVENT = {"term": {"event.dataset": "registry.events"}}
_MONTH = re.compile(r"\d{4}\.\d{2}")


class Refusal(NamedTuple):
    """A document that Elasticsearch refuses for good, and the reason."""

    document: Document
    reason: str


class AnalyticsIndex:
    """Reads and writes the indices for dashboards. Every method raises SearchUnavailable when Elasticsearch fails."""

    def __init__(self, client: AsyncElasticsearch, prefix: str) -> None:
        self._es = client.options(request_timeout=BULK_TIMEOUT)
        self._prefix = prefix
        self._has_templates = False

    async def write(self, documents: Sequence[Document]) -> list[Refusal]:
        """Writes `documents`. Logs, counts and returns those that Elasticsearch refuses for good.

        Raises SearchUnavailable for any other error: write the same documents again later.
        """
        try:
            await self._put_templates()
            failed = await self._bulk(documents) if documents else {}
        except SearchUnavailable:
            self._has_templates = False  # Elasticsearch may come back empty
            raise
        return self._refusals(failed, documents)

    async def _bulk(self, documents: Sequence[Document]) -> dict[str, dict[str, Any]]:
        """Sends one request. Returns the outcomes of the documents that were not written, by id."""
        lines = (
            line for d in documents for line in ({"index": {"_index": self._prefix + d.index, "_id": d.id}}, d.source)
        )
        return {outcome["_id"]: outcome for outcome in await bulk(self._es, lines) if "error" in outcome}

    async def holds(self, places: Sequence[Place]) -> bool:
        """Whether every document exists. It need not be searchable yet."""
        docs = [{"_index": self._prefix + place.index, "_id": place.id, "_source": False} for place in places]
        with errors_named():
            answer = await self._es.mget(docs=docs)
        for item in answer["docs"]:
            error = item.get("error")
            if error is not None and error["type"] != "index_not_found_exception":
                raise SearchUnavailable(f"Elasticsearch can't read the documents for dashboards: {reason_of(error)}")
        return all(item.get("found", False) for item in answer["docs"])

    async def drop_before(self, month: date) -> list[str]:
        """Deletes the indices of downloads of all months before `month` and returns their names."""
        stem = f"{self._prefix}{DOWNLOADS}-"
        with errors_named():
            found = await self._es.indices.get(index=f"{stem}*", features="aliases")
            old = [
                name
                for name in found.body
                if _MONTH.fullmatch(name.removeprefix(stem)) and name < f"{stem}{month:%Y.%m}"
            ]
            for name in old:
                await self._es.options(ignore_status=404).indices.delete(index=name)
        return old

    async def count_downloads(self, month: date) -> int:
        """The number of searchable downloads of the month, given by its first day."""
        return await self._count(f"{DOWNLOADS}-{month:%Y.%m}", {"match_all": {}})

    async def count_events(self) -> int:
        """The number of searchable events. Samples of lags are in the same indices and are not counted."""
        return await self._count(f"{EVENTS}-*", _IS_EVENT)

    async def clear_downloads(self, month: date) -> None:
        """Deletes all downloads of the month, given by its first day."""
        await self._clear(f"{DOWNLOADS}-{month:%Y.%m}", {"match_all": {}})

    async def clear_events(self) -> None:
        """Deletes all events, but not the samples of lags."""
        await self._clear(f"{EVENTS}-*", _IS_EVENT)

    async def _count(self, name: str, query: Mapping[str, object]) -> int:
        with errors_named():
            answer = await self._es.count(index=self._prefix + name, query=query, ignore_unavailable=True)
        return int(answer["count"])

    async def _clear(self, name: str, query: Mapping[str, object]) -> None:
        with errors_named():
            await self._es.delete_by_query(
                index=self._prefix + name, query=query, conflicts="proceed", refresh=True, ignore_unavailable=True
            )

    async def refresh(self) -> None:
        """Makes everything written so far searchable."""
        with errors_named():
            await self._es.indices.refresh(index=[f"{self._prefix}{kind}-*" for kind in KINDS])

    async def _put_templates(self) -> None:
        """Puts the index templates before the first write, so that Elasticsearch does not guess a mapping."""
        if self._has_templates:
            return
        for kind, file in TEMPLATES.items():
            body = es_mappings.load(file)
            patterns = [self._prefix + pattern for pattern in body["index_patterns"]]
            with errors_named():
                await self._es.indices.put_index_template(
                    name=self._prefix + kind,
                    index_patterns=patterns,
                    template=body["template"],
                    priority=body["priority"],
                    version=body["version"],
                    meta=body["_meta"],
                )
            await self._add_fields(kind, body["template"]["mappings"]["properties"])
        self._has_templates = True

    async def _add_fields(self, kind: str, properties: Mapping[str, Any]) -> None:
        """Adds the fields that the indices of an older release lack. An index of another form is left as it is."""
        with errors_named():
            answer = await self._es.options(ignore_status=400).indices.put_mapping(
                index=f"{self._prefix}{kind}-*", properties=properties, allow_no_indices=True, ignore_unavailable=True
            )
        if answer.meta.status == 400:
            log.warning(
                "indices for dashboards lack new fields", extra={"kind": kind, "reason": reason_of(answer["error"])}
            )

    def _refusals(self, failed: Mapping[str, dict[str, Any]], documents: Sequence[Document]) -> list[Refusal]:
        for item in failed.values():
            if not refuses_document(item["error"]):
                self._has_templates = False
                raise SearchUnavailable(
                    f"Elasticsearch accepts no documents for dashboards: {reason_of(item['error'])}"
                )
        found = [Refusal(d, reason_of(failed[d.id]["error"])) for d in documents if d.id in failed]
        for refusal in found:
            REFUSED.inc()
            log.error(
                "document for dashboards refused", extra={"document": refusal.document.id, "reason": refusal.reason}
            )
        return found


@asynccontextmanager
async def open_analytics(settings: SearchSettings) -> AsyncIterator[AnalyticsIndex | None]:
    """The index of `settings`, or None if they have no address. Leaving the block closes it."""
    async with open_client(settings) as client:
        yield AnalyticsIndex(client, settings.prefix) if client is not None else None
