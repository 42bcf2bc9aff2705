"""Access to the search indices of packages in Elasticsearch, and their generations.

`{prefix}packages` and `{prefix}versions` are aliases of the current generation, which is searched. During a rebuild,
`{prefix}packages-building` and `{prefix}versions-building` are aliases of the new generation. All writes use aliases
and require that the alias exists, so that a write never creates an index.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
from elasticsearch import ApiError, AsyncElasticsearch, ConnectionTimeout

from registry.elastic import AWAY, BULK_TIMEOUT, BUSY, JSON_HEADERS, IndexMissing, bulk, errors_named, open_client
from registry.errors import SearchUnavailable
from registry.search.breaker import Breaker
from registry.search.documents import LEAST_MAX_POPULARITY, PACKAGES, VERSIONS, Document
from registry.search.mapping import body_of, has_vectors_of, layout_of
from registry.search.meaning.encoder import Encoder, open_encoder
from registry.search.writes import Outcome, Write, operation, reference, refusal
from registry.setting_parts import SearchSettings

KINDS = (PACKAGES, VERSIONS)
BUILDING = "-building"
BULK_DOCUMENTS = 250
BACK_OFF_SECONDS = (0.5, 1.0, 2.0, 4.0)
MAX_POPULARITY_SECONDS = 30.0
# A million packages take less than a minute.
MERGE_SECONDS = 300.0


class SearchIndex:
    """Reads and writes both indices. All methods raise SearchUnavailable when Elasticsearch fails or refuses."""

    def __init__(self, client: AsyncElasticsearch | None, prefix: str, encoder: Encoder | None = None) -> None:
        self.encoder = encoder
        self._client = client
        self._prefix = prefix
        self._breaker = Breaker()
        self._max_popularity: float | None = None
        self._max_popularity_until = 0.0

    @property
    def _es(self) -> AsyncElasticsearch:
        if self._client is None:
            raise SearchUnavailable("No search engine is configured. Set REGISTRY_ES_URL.")
        return self._client

    @property
    def _patient(self) -> AsyncElasticsearch:
        """A client with a long timeout. Elasticsearch completes a change even after the client has given up."""
        return self._es.options(request_timeout=BULK_TIMEOUT)

    @property
    def is_configured(self) -> bool:
        return self._client is not None

    @property
    def is_away(self) -> bool:
        """Whether Elasticsearch was unavailable a moment ago, or is not configured."""
        return self._client is None or self._breaker.is_open

    def alias(self, kind: str, *, building: bool = False) -> str:
        return f"{self._prefix}{kind}{BUILDING if building else ''}"

    # Searching

    async def search(self, kind: str, body: Mapping[str, Any], *, named_scores: bool = False) -> dict[str, Any]:
        """The answer of Elasticsearch to `body`. For a while after a failure it fails without sending a request.

        With `named_scores`, matched_queries of each hit maps the names of clauses to their scores.
        """
        if not self._breaker.admits():
            raise SearchUnavailable(AWAY)
        try:
            with errors_named():
                # `client.search` does the same, but takes longer to prepare the request.
                answer = await self._es.perform_request(
                    "POST",
                    f"/{self.alias(kind)}/_search",
                    params={"allow_partial_search_results": False, "include_named_queries_score": named_scores},
                    headers=JSON_HEADERS,
                    body=orjson.dumps(body),
                )
        except SearchUnavailable as error:
            self._note_failure(error.__cause__)
            raise
        self._breaker.succeeded()
        found: dict[str, Any] = answer.body
        return found

    def _note_failure(self, cause: BaseException | None) -> None:
        """Opens the breaker, unless Elasticsearch refused this query because of its content (4xx)."""
        if not isinstance(cause, ApiError) or cause.status_code in BUSY or cause.status_code >= 500:
            self._breaker.failed(slow=isinstance(cause, ConnectionTimeout))
        else:
            self._breaker.succeeded()

    async def max_popularity(self) -> float:
        """The highest `popularity` of all packages, at most MAX_POPULARITY_SECONDS old."""
        if self._max_popularity is None or time.monotonic() >= self._max_popularity_until:
            # Concurrent searches use the last value while this one fetches a new one.
            self._max_popularity_until = time.monotonic() + MAX_POPULARITY_SECONDS
            body = {"size": 0, "aggs": {"max_popularity": {"max": {"field": "popularity"}}}}
            try:
                answer = await self.search(PACKAGES, body)
            except BaseException:
                self._max_popularity_until = 0.0
                raise
            self._max_popularity = max(answer["aggregations"]["max_popularity"]["value"] or 0.0, LEAST_MAX_POPULARITY)
        return self._max_popularity

    async def documents(
        self, kind: str, ids: Sequence[str], fields: Sequence[str], *, unrefreshed: bool = False
    ) -> dict[str, Document]:
        """`fields` of those documents in `ids` that searches find, by id. With `unrefreshed`, as last written."""
        if not ids:
            return {}
        with errors_named():
            answer = await self._es.mget(
                index=self.alias(kind), ids=list(ids), source_includes=list(fields), realtime=unrefreshed
            )
        return {found["_id"]: found["_source"] for found in answer["docs"] if found.get("found")}

    # Writing

    async def targets(self, kind: str) -> list[str]:
        """The aliases to write to: that of the current generation and, during a rebuild, that of the new one.

        Raises IndexMissing when there is no current generation.
        """
        names = (self.alias(kind), self.alias(kind, building=True))
        with errors_named():
            found = await self._es.options(ignore_status=404).indices.get_alias(name=list(names))
        entries = [entry for entry in found.body.values() if isinstance(entry, dict)]
        # An alias of several indices accepts no writes. Two concurrent rebuilds may leave such an alias.
        known = Counter(name for entry in entries for name in entry.get("aliases", ()))
        if known[self.alias(kind)] != 1:
            raise IndexMissing(f"The search index {self.alias(kind)} is missing.")
        return [name for name in names if known[name] == 1]

    async def bulk(self, writes: Iterable[Write], *, building_only: bool = False) -> Outcome:
        """Puts and deletes documents. A write never replaces a document with a higher seq.

        Retries with pauses while Elasticsearch is busy. Returns the documents it refuses. Raises IndexMissing when an
        alias disappears meanwhile; the same writes may then be repeated.
        """
        targets = {
            kind: [self.alias(kind, building=True)] if building_only else await self.targets(kind) for kind in KINDS
        }
        outcome = Outcome()
        todo = [(write, target) for write in writes for target in targets[write.kind]]
        for start in range(0, len(todo), BULK_DOCUMENTS):
            await self._bulk_chunk(todo[start : start + BULK_DOCUMENTS], outcome)
        return outcome

    async def _bulk_chunk(self, todo: list[tuple[Write, str]], outcome: Outcome) -> None:
        for pause in (*BACK_OFF_SECONDS, None):
            busy = await self._bulk_once(todo, outcome)
            if not busy:
                return
            if pause is not None:
                await asyncio.sleep(pause)
                todo = busy
        raise SearchUnavailable("The search engine is too busy to index.")

    async def _bulk_once(self, todo: list[tuple[Write, str]], outcome: Outcome) -> list[tuple[Write, str]]:
        """Sends the writes once. Returns those to send again."""
        lines = [line for write, target in todo for line in operation(write, target)]
        try:
            results = await bulk(self._patient, lines, require_alias=True)
        except SearchUnavailable as error:
            if isinstance(error.__cause__, ApiError) and error.__cause__.status_code in BUSY:
                return todo
            raise
        busy = []
        for (write, target), result in zip(todo, results, strict=True):
            if result["status"] in BUSY:
                busy.append((write, target))
            elif problem := refusal(result):
                outcome.failed[reference(write)] = problem
        return busy

    async def refresh(self, *, building: bool = False) -> None:
        """Makes everything written so far searchable in both generations: the new one may become current at any time.

        With `building`, only in the new generation.
        """
        # The new generation may not exist. A pattern without a match is no error, unlike a name without an index.
        names = [self.alias(kind, building=True) + ("" if building else "*") for kind in KINDS]
        names += [] if building else [self.alias(kind) for kind in KINDS]
        with errors_named():
            await self._patient.indices.refresh(index=names)

    async def count(self, kind: str, *, building: bool = False) -> int:
        with errors_named():
            return int((await self._es.count(index=self.alias(kind, building=building)))["count"])

    # Generations

    async def is_current(self) -> bool:
        """Whether both aliases exist and each has one index, with the layout of this release or a newer one.

        Also whether the index of packages has vectors of the model in use, or none without a model. A newer layout is
        accepted, so that two releases that run at once do not rebuild each other's indices.
        """
        current = {kind: await self._indices_of(self.alias(kind)) for kind in KINDS}
        for kind, names in current.items():
            if len(names) != 1 or layout_of(names[0]) < body_of(kind, self.encoder)["version"]:
                return False
        [packages] = current[PACKAGES]
        return has_vectors_of((await self._mapping(packages)).get("properties", {}), self.encoder)

    async def create_generation(self) -> None:
        """Creates two empty indices with the building aliases. Deletes unfinished ones first."""
        await self.drop_building()
        moment = datetime.now(UTC).strftime("%Y%m%dt%H%M%S%f")
        for kind in KINDS:
            body = body_of(kind, self.encoder)
            with errors_named():
                await self._patient.indices.create(
                    index=f"{self._prefix}{kind}-v{body['version']}-{moment}",
                    settings=body["settings"],
                    mappings=body["mappings"],
                    aliases={self.alias(kind, building=True): {}},
                )

    async def merge_building(self) -> None:
        """Merges each index of the new generation into one segment, which costs less to search than many.

        Waits MERGE_SECONDS at most for each. Elasticsearch goes on merging after that, and searches work meanwhile.
        A failure is only logged.
        """
        patient = self._es.options(request_timeout=MERGE_SECONDS)
        for kind in KINDS:
            with contextlib.suppress(SearchUnavailable), errors_named():
                await patient.indices.forcemerge(index=self.alias(kind, building=True), max_num_segments=1)

    async def drop_building(self) -> None:
        """Removes the building aliases. Deletes unfinished indices, and keeps a generation that was revived."""
        for kind in KINDS:
            building = self.alias(kind, building=True)
            for name in await self._indices_of(building):
                # Elasticsearch may still be running a swap whose answer was lost. Both requests remove the building
                # alias with `must_exist`, so the later one fails and changes nothing.
                with contextlib.suppress(IndexMissing), errors_named():
                    is_revived = await self._complete_until(name) is not None
                    await self._patient.indices.update_aliases(actions=[_remove(name, building)])
                    if not is_revived:
                        await self._drop([name])

    async def swap(self, seq: int) -> None:
        """Makes the new generation the current one, for both indices in one step.

        The former generation is kept with `seq`, up to which it is complete. Older ones are deleted. Raises
        SearchUnavailable when two rebuilds ran at once, which can happen after a lost lock.
        """
        actions: list[dict[str, Any]] = []
        retired: list[str] = []
        for kind in KINDS:
            alias, building = self.alias(kind), self.alias(kind, building=True)
            new, old = await self._indices_of(building), await self._indices_of(alias)
            if len(new) != 1:
                raise SearchUnavailable(f"{len(new)} indices have the alias {building}, not one. None is used.")
            retired += old
            actions += [_remove(new[0], building), *(_remove(name, alias) for name in old)]
            actions.append({"add": {"index": new[0], "alias": alias}})
        with errors_named():
            for name in retired:
                await self._patient.indices.put_mapping(index=name, meta={"seq": seq})
            await self._patient.indices.update_aliases(actions=actions)
        for kind in KINDS:
            kept = {*retired, *await self._indices_of(self.alias(kind))}
            await self._drop([name for name in await self._generations(kind) if name not in kept])

    async def revive_previous(self) -> int:
        """Gives the kept generation the building aliases. Returns the seq up to which it is complete.

        Raises IndexMissing when none is kept.
        """
        await self.drop_building()
        previous = {}
        for kind in KINDS:
            searched = await self._indices_of(self.alias(kind))
            previous[kind] = [name for name in await self._generations(kind) if name not in searched][-1:]
        if not all(previous.values()):
            raise IndexMissing("No earlier generation of the search index is kept.")
        seqs = [await self._complete_until(name) or 0 for [name] in previous.values()]
        building = {kind: self.alias(kind, building=True) for kind in KINDS}
        actions = [{"add": {"index": name, "alias": building[kind]}} for kind, [name] in previous.items()]
        with errors_named():
            await self._patient.indices.update_aliases(actions=actions)
        return min(seqs)

    async def health(self) -> dict[str, Any]:
        """{"status": "green" or "yellow", "documents": indexed packages}. Raises SearchUnavailable when red."""
        with errors_named():
            found = await self._es.cluster.health(index=self.alias(PACKAGES), timeout="1s")
        if found["status"] == "red":
            raise SearchUnavailable("The search index has lost a shard.")
        return {"status": found["status"], "documents": await self.count(PACKAGES)}

    async def _indices_of(self, alias: str) -> list[str]:
        """The names of the indices that have this alias."""
        with errors_named():
            found = await self._es.options(ignore_status=404).indices.get_alias(name=alias)
        return sorted(name for name, entry in found.body.items() if isinstance(entry, dict))

    async def _generations(self, kind: str) -> list[str]:
        """All indices of `kind`, oldest first."""
        with errors_named():
            found = await self._es.indices.get(index=f"{self._prefix}{kind}-*", features="aliases")
        return sorted(found.body, key=lambda name: name.rpartition("-")[2])

    async def _complete_until(self, name: str) -> int | None:
        """The seq up to which a former generation is complete; None for an index that was never replaced."""
        seq = (await self._mapping(name)).get("_meta", {}).get("seq")
        return None if seq is None else int(seq)

    async def _mapping(self, name: str) -> dict[str, Any]:
        with errors_named():
            found = await self._es.indices.get_mapping(index=name)
        mapping: dict[str, Any] = found[name]["mappings"]
        return mapping

    async def _drop(self, names: Sequence[str]) -> None:
        # One by one, because several names may exceed the longest allowed URL.
        for name in names:
            with errors_named():
                await self._patient.options(ignore_status=404).indices.delete(index=name)


def _remove(name: str, alias: str) -> dict[str, Any]:
    return {"remove": {"index": name, "alias": alias, "must_exist": True}}


@asynccontextmanager
async def open_search(settings: SearchSettings) -> AsyncIterator[SearchIndex]:
    """Opens the index and closes it at the end. Without REGISTRY_ES_URL, every call raises SearchUnavailable."""
    async with open_encoder(settings) as encoder, open_client(settings) as client:
        yield SearchIndex(client, settings.prefix, encoder)
