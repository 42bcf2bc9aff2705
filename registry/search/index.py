"""The door to Elasticsearch for packages: two indices behind aliases, and their generations.

`{prefix}packages` and `{prefix}versions` are aliases of the generation that is searched; while a new one is built it
stands behind `{prefix}packages-building` and `{prefix}versions-building`. All writes go through aliases and demand
that they are ones, so that nothing ever creates an index by writing to it.
"""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
from elasticsearch import ApiError, AsyncElasticsearch, ConnectionTimeout

import es_mappings
from registry.elastic import AWAY, BULK_TIMEOUT, BUSY, IndexMissing, errors_named, open_client
from registry.errors import SearchUnavailable
from registry.search.breaker import Breaker
from registry.search.documents import LEAST_HEAVIEST, PACKAGES, VERSIONS, Document
from registry.search.writes import Outcome, Write, operation, reference, refusal
from registry.settings import SearchSettings

KINDS = (PACKAGES, VERSIONS)
BUILDING = "-building"
BULK_DOCUMENTS = 250
BACK_OFF_SECONDS = (0.5, 1.0, 2.0, 4.0)
HEAVIEST_SECONDS = 30.0
_LAYOUT = re.compile(r"-v([0-9]{1,9})-")


class SearchIndex:
    """Reads and writes both indices. Every method raises SearchUnavailable when Elasticsearch is away or refuses."""

    def __init__(self, client: AsyncElasticsearch | None, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._breaker = Breaker()
        self._heaviest: float | None = None
        self._heaviest_until = 0.0

    @property
    def _es(self) -> AsyncElasticsearch:
        if self._client is None:
            raise SearchUnavailable("No search engine is configured.")
        return self._client

    @property
    def _patient(self) -> AsyncElasticsearch:
        """For what may take longer than a search: a change that was given up takes place all the same."""
        return self._es.options(request_timeout=BULK_TIMEOUT)

    @property
    def is_configured(self) -> bool:
        return self._client is not None

    @property
    def is_away(self) -> bool:
        """Whether it was away a moment ago; what waits for it would wait in vain."""
        return self._client is None or self._breaker.is_open

    def alias(self, kind: str, *, building: bool = False) -> str:
        return f"{self._prefix}{kind}{BUILDING if building else ''}"

    # Searching

    async def search(self, kind: str, body: Mapping[str, Any], *, named_scores: bool = False) -> dict[str, Any]:
        """Elasticsearch's answer to `body`. For a few seconds after a failure it is not even asked.

        With `named_scores` each hit's matched_queries maps names to what they are worth.
        """
        if not self._breaker.admits():
            raise SearchUnavailable(AWAY)
        try:
            with errors_named():
                answer = await self._es.search(
                    index=self.alias(kind),
                    body=dict(body),
                    allow_partial_search_results=False,
                    include_named_queries_score=named_scores,
                )
        except SearchUnavailable as error:
            self._note_failure(error.__cause__)
            raise
        self._breaker.succeeded()
        return dict(answer.body)

    def _note_failure(self, cause: BaseException | None) -> None:
        """A query that is refused for what it asks (4xx) says nothing about the next one."""
        if not isinstance(cause, ApiError) or cause.status_code in BUSY or cause.status_code >= 500:
            self._breaker.failed(slow=isinstance(cause, ConnectionTimeout))
        else:
            self._breaker.succeeded()

    async def heaviest(self) -> float:
        """The highest `popularity` of all packages, at most HEAVIEST_SECONDS old."""
        if self._heaviest is None or time.monotonic() >= self._heaviest_until:
            # Concurrent searches go on with the last value while this one asks for a new one.
            self._heaviest_until = time.monotonic() + HEAVIEST_SECONDS
            body = {"size": 0, "aggs": {"heaviest": {"max": {"field": "popularity"}}}}
            try:
                answer = await self.search(PACKAGES, body)
            except BaseException:
                self._heaviest_until = 0.0
                raise
            self._heaviest = max(answer["aggregations"]["heaviest"]["value"] or 0.0, LEAST_HEAVIEST)
        return self._heaviest

    async def documents(self, kind: str, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Document]:
        """`fields` of those of `ids` that exist, by id."""
        if not ids:
            return {}
        with errors_named():
            answer = await self._es.mget(index=self.alias(kind), ids=list(ids), source_includes=list(fields))
        return {found["_id"]: found["_source"] for found in answer["docs"] if found.get("found")}

    # Writing

    async def targets(self, kind: str) -> list[str]:
        """The aliases that a change is written to: the one searched and, during a rebuild, the one being built.

        Raises IndexMissing when there is nothing to search.
        """
        names = (self.alias(kind), self.alias(kind, building=True))
        with errors_named():
            found = await self._es.options(ignore_status=404).indices.get_alias(name=list(names))
        entries = [entry for entry in found.body.values() if isinstance(entry, dict)]
        # An alias of several, as two rebuilds at once leave it, takes no writes.
        known = Counter(name for entry in entries for name in entry.get("aliases", ()))
        if known[self.alias(kind)] != 1:
            raise IndexMissing(f"The search index {self.alias(kind)} is missing.")
        return [name for name in names if known[name] == 1]

    async def bulk(self, writes: Iterable[Write], *, building_only: bool = False) -> Outcome:
        """Puts and deletes; a document never replaces one of a higher seq.

        Documents that the engine refuses are in the outcome; it is asked again, with pauses, while it is busy. Raises
        IndexMissing when an alias went away meanwhile: the same writes may be repeated.
        """
        if building_only:
            targets = {kind: [self.alias(kind, building=True)] for kind in KINDS}
        else:
            targets = {kind: await self.targets(kind) for kind in KINDS}
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
        """Sends `todo` once; those to send again."""
        operations = [orjson.dumps(line) for write, target in todo for line in operation(write, target)]
        try:
            with errors_named():
                # Lines, which the client's own helpers send as well.
                answer = await self._patient.bulk(operations=operations, require_alias=True)  # type: ignore[arg-type]
        except SearchUnavailable as error:
            if isinstance(error.__cause__, ApiError) and error.__cause__.status_code in BUSY:
                return todo
            raise
        busy = []
        for (write, target), item in zip(todo, answer["items"], strict=True):
            result = next(iter(item.values()))
            if result["status"] in BUSY:
                busy.append((write, target))
            elif problem := refusal(result):
                outcome.failed[reference(write)] = problem
        return busy

    async def refresh(self, *, building: bool = False) -> None:
        """Makes everything written so far searchable, in the generation being built, too: it may be swapped in.

        With `building` only that one.
        """
        # The one being built need not exist: a pattern may match nothing.
        names = [self.alias(kind, building=True) + ("" if building else "*") for kind in KINDS]
        names += [] if building else [self.alias(kind) for kind in KINDS]
        with errors_named():
            await self._patient.indices.refresh(index=names)

    async def count(self, kind: str, *, building: bool = False) -> int:
        with errors_named():
            return int((await self._es.count(index=self.alias(kind, building=building)))["count"])

    # Generations

    async def is_current(self) -> bool:
        """Whether both aliases exist and lead to one index each, of the layout this code has or a newer one.

        While a release replaces another, each would undo the other's else.
        """
        behind = {kind: await self._behind(self.alias(kind)) for kind in KINDS}
        layout = es_mappings.load(PACKAGES)["version"]
        return all(len(names) == 1 and self._layout(kind, names[0]) >= layout for kind, names in behind.items())

    async def create_generation(self) -> None:
        """Two new, empty indices behind the building aliases, without refresh; unfinished ones go first."""
        await self.drop_building()
        moment = datetime.now(UTC).strftime("%Y%m%dt%H%M%S%f")
        for kind in KINDS:
            body = es_mappings.load(PACKAGES)
            body["settings"]["refresh_interval"] = "-1"
            with errors_named():
                await self._patient.indices.create(
                    index=f"{self._prefix}{kind}-v{body['version']}-{moment}",
                    settings=body["settings"],
                    mappings=body["mappings"],
                    aliases={self.alias(kind, building=True): {}},
                )

    async def drop_building(self) -> None:
        for kind in KINDS:
            building = self.alias(kind, building=True)
            for name in await self._behind(building):
                # A swap whose answer was lost may be under way: either it has taken the alias, or fails for want of it.
                with contextlib.suppress(IndexMissing), errors_named():
                    await self._patient.indices.update_aliases(actions=[_remove(name, building)])
                    await self._drop([name])

    async def swap(self, seq: int) -> None:
        """The generation being built becomes the searched one, in one step for both indices.

        The one that was searched is kept, with `seq`, up to which it is complete; older ones are deleted. Raises
        SearchUnavailable when two rebuilds got into each other's way, as when the lock of one was lost.
        """
        actions: list[dict[str, Any]] = []
        retired: list[str] = []
        for kind in KINDS:
            alias, building = self.alias(kind), self.alias(kind, building=True)
            new, old = await self._behind(building), await self._behind(alias)
            if len(new) != 1:
                raise SearchUnavailable(f"{len(new)} indices are being built as {building}, not one; none is used.")
            await self._settle(new)
            retired += old
            actions += [_remove(new[0], building), *(_remove(name, alias) for name in old)]
            actions.append({"add": {"index": new[0], "alias": alias}})
        with errors_named():
            for name in retired:
                await self._patient.indices.put_mapping(index=name, meta={"seq": seq})
            await self._patient.indices.update_aliases(actions=actions)
        for kind in KINDS:
            kept = {*retired, *await self._behind(self.alias(kind))}
            await self._drop([name for name in await self._generations(kind) if name not in kept])

    async def revive_previous(self) -> int:
        """Puts the kept generation behind the building aliases; the seq up to which it is complete.

        Raises IndexMissing when none is kept.
        """
        await self.drop_building()
        previous = {}
        for kind in KINDS:
            searched = await self._behind(self.alias(kind))
            previous[kind] = [name for name in await self._generations(kind) if name not in searched][-1:]
        if not all(previous.values()):
            raise IndexMissing("No earlier generation of the search index is kept.")
        names = [names[0] for names in previous.values()]
        actions = [
            {"add": {"index": kept[0], "alias": self.alias(kind, building=True)}} for kind, kept in previous.items()
        ]
        with errors_named():
            mappings = await self._es.indices.get_mapping(index=names)
            await self._patient.indices.update_aliases(actions=actions)
        return min(int(mappings[name]["mappings"].get("_meta", {}).get("seq", 0)) for name in names)

    async def delete_all(self) -> None:
        """Deletes every generation: for tests and for leaving a shared Elasticsearch."""
        await self._drop([name for kind in KINDS for name in await self._generations(kind)])

    async def health(self) -> dict[str, Any]:
        """{"status": green | yellow, "documents": packages indexed}; SearchUnavailable when search can't be served."""
        with errors_named():
            found = await self._es.cluster.health(index=self.alias(PACKAGES), timeout="1s")
        if found["status"] == "red":
            raise SearchUnavailable("The search index has lost a shard.")
        return {"status": found["status"], "documents": await self.count(PACKAGES)}

    def _layout(self, kind: str, name: str) -> int:
        """The number of the layout that the index `name` was made with."""
        found = _LAYOUT.match(name.removeprefix(f"{self._prefix}{kind}"))
        return int(found[1]) if found else 0

    async def _behind(self, alias: str) -> list[str]:
        with errors_named():
            found = await self._es.options(ignore_status=404).indices.get_alias(name=alias)
        return sorted(name for name, entry in found.body.items() if isinstance(entry, dict))

    async def _generations(self, kind: str) -> list[str]:
        """Every index of `kind`, oldest first, whatever its mapping."""
        with errors_named():
            found = await self._es.indices.get(index=f"{self._prefix}{kind}-*", features="aliases")
        return sorted(found.body, key=lambda name: name.rpartition("-")[2])

    async def _settle(self, names: Sequence[str]) -> None:
        with errors_named():
            interval = es_mappings.load(PACKAGES)["settings"]["refresh_interval"]
            for name in names:
                await self._patient.indices.put_settings(index=name, settings={"refresh_interval": interval})

    async def _drop(self, names: Sequence[str]) -> None:
        # Several in one address may pass the longest URL.
        for name in names:
            with errors_named():
                await self._patient.options(ignore_status=404).indices.delete(index=name)


def _remove(name: str, alias: str) -> dict[str, Any]:
    return {"remove": {"index": name, "alias": alias, "must_exist": True}}


@asynccontextmanager
async def open_search(settings: SearchSettings) -> AsyncIterator[SearchIndex]:
    """The index of `settings`, closed at the end; without an address every call of it raises SearchUnavailable."""
    async with open_client(settings) as client:
        yield SearchIndex(client, settings.prefix)
