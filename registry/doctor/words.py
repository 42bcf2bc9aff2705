"""The check that PostgreSQL can answer searches while Elasticsearch is unavailable."""

from registry.db.engine import Row
from registry.doctor.check import PAGE, Check, Found, Registry, pages
from registry.search.fallback import consumer
from registry.search.fallback.writing import store


async def _wrong(registry: Registry) -> list[Row]:
    """The packages whose lexemes are missing or outdated. The consumer gets time to write those that have changed."""
    suspects: list[int] = []
    async for rows in pages(registry, store.texts_after, "id", 0, PAGE):
        async with registry.db.read() as conn:
            suspects += await consumer.different(conn, rows)
    if not suspects:
        return []
    await registry.settle()
    wrong: list[Row] = []
    for at in range(0, len(suspects), PAGE):
        async with registry.db.read(snapshot=True) as conn:
            rows = await store.texts_of(conn, suspects[at : at + PAGE])
            still = set(await consumer.different(conn, rows))
        wrong += [row for row in rows if row.id in still]
    return wrong


async def _find(registry: Registry) -> Found:
    found = Found()
    for row in await _wrong(registry):
        found.add(row.name)
    return found


async def _rewrite(registry: Registry) -> None:
    ids = [row.id for row in await _wrong(registry)]
    for at in range(0, len(ids), PAGE):
        await consumer.rewrite(registry.db, ids[at : at + PAGE])


CHECKS = (
    Check(
        "package words",
        "PostgreSQL has the words of each package, so that it can answer searches without Elasticsearch",
        "write the words of these packages again",
        _find,
        _rewrite,
    ),
)
