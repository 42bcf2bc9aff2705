"""Encodes queries and texts in threads, within limits: a query that takes too long is asked without its vector."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cachetools import LRUCache
from prometheus_client import Counter, Histogram

from registry.errors import SettingsError
from registry.search.meaning.model import BYTES_PER_NUMBER, Model, open_model
from registry.search.request import RELEVANCE, SearchRequest
from registry.setting_parts import SearchSettings

log = logging.getLogger(__name__)

QUERIES = Counter(
    "registry_search_meaning_queries_total",
    "Searches by relevance, by whether and how they got a vector",
    ["outcome"],
)
SECONDS = Histogram(
    "registry_search_encoding_seconds",
    "How long the model took for a query or for a batch of texts",
    ["what"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
TEXTS = Counter("registry_search_encoded_texts_total", "Texts of packages that the model encoded")
OUTCOMES = ENCODED, CACHED, UNFAMILIAR, LATE, FAILED = "encoded", "cached", "unfamiliar", "late", "failed"

FIELDS = "meaning_"
"""The beginning of the names of fields with vectors. The id of their model follows."""
QUERY_SECONDS = 0.05
# About 1.5 kB each.
CACHED_QUERIES = 4096
# Queries that wait for a thread. One more would certainly be late.
MOST_WAITING = 32
# One thread encodes texts of packages, so that there is always one for queries.
THREADS = 2
TEXTS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector in the form that Elasticsearch reads: the base64 of its numbers. `field` holds those of packages."""

    field: str
    value: str


class Encoder:
    """Encodes with one model. `field` is the field of documents with its vectors, which have `dimensions` numbers."""

    def __init__(self, model: Model, *, query_seconds: float = QUERY_SECONDS) -> None:
        self._model = model
        self._query_seconds = query_seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="encoder")
        self._texts = asyncio.Lock()
        self._cache: LRUCache[str, Vector | None] = LRUCache(CACHED_QUERIES)
        self._running: dict[str, asyncio.Task[Vector | None]] = {}
        self.model_id = model.id
        self.field = FIELDS + model.id
        self.dimensions = len(model.encode([""])[0]) // BYTES_PER_NUMBER
        for outcome in OUTCOMES:
            QUERIES.labels(outcome)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def of_query(self, text: str) -> Vector | None:
        """The vector of a query. None if most of its words are unknown to the model, if it takes too long, or if the
        model fails.

        A query that was late goes on in its thread, so the next one with this text finds the vector in the cache.
        """
        key = text.lower()
        if key not in self._cache and not self._model.vocabulary.is_familiar(text):
            self._cache[key] = None
        if key in self._cache:
            known = self._cache[key]
            QUERIES.labels(CACHED if known else UNFAMILIAR).inc()
            return known
        try:
            async with asyncio.timeout(self._query_seconds):
                found = await asyncio.shield(self._task(key))
        except TimeoutError:
            QUERIES.labels(LATE).inc()
            return None
        QUERIES.labels(ENCODED if found else FAILED).inc()
        return found

    def _task(self, key: str) -> asyncio.Task[Vector | None]:
        """Encodes a query, once for all that ask for it at the same time. Raises TimeoutError if too many wait."""
        running = self._running.get(key)
        if running is None:
            if len(self._running) >= MOST_WAITING:
                raise TimeoutError
            self._running[key] = running = asyncio.create_task(self._encode_query(key))
            running.add_done_callback(lambda _: self._running.pop(key))
        return running

    async def _encode_query(self, text: str) -> Vector | None:
        try:
            [value] = await self._in_thread("query", [text])
        except Exception:  # whatever the model raises: a search by words alone is better than none
            log.exception("a query can't be encoded")
            return None
        self._cache[text] = found = self.vector(value)
        return found

    async def of_texts(self, texts: Sequence[str]) -> list[bytes]:
        """The vectors of texts of packages, for storing. The lock lets queries have the other thread."""
        found: list[bytes] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            batch = texts[start : start + TEXTS_AT_ONCE]
            async with self._texts:
                found += await self._in_thread("texts", batch)
            TEXTS.inc(len(batch))
        return found

    def vector(self, value: bytes) -> Vector:
        """A stored vector in the form that Elasticsearch reads."""
        return Vector(self.field, base64.b64encode(value).decode("ascii"))

    async def _in_thread(self, what: str, texts: Sequence[str]) -> list[bytes]:
        def work() -> list[bytes]:
            with SECONDS.labels(what).time():
                return self._model.encode(texts)

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


async def vector_of(encoder: Encoder | None, request: SearchRequest) -> Vector | None:
    """The vector of a search for packages by relevance; None for others, and for a query that gets none."""
    text = request.terms.text
    if encoder is None or not text or request.sort != RELEVANCE or request.every_version:
        return None
    return await encoder.of_query(text)


@asynccontextmanager
async def open_encoder(settings: SearchSettings) -> AsyncIterator[Encoder | None]:
    """The encoder, closed at the end of the block; None without REGISTRY_SEARCH_MODEL. Raises SettingsError."""
    if settings.model is None:
        yield None
        return
    try:
        model = await asyncio.to_thread(open_model, settings.model, settings.model_sha256)
    except ValueError as problem:
        raise SettingsError(
            f"REGISTRY_SEARCH_MODEL wants the folder of a model that can be used: {problem}"
        ) from problem
    encoder = Encoder(model)
    try:
        yield encoder
    finally:
        encoder.close()
