"""What the doctor says of the event log of a registry that older releases used."""

from registry.db.engine import Connection, Database, Statement
from registry.doctor.events import store
from registry.events.log import last_seq
from registry.keys import DB
from tests.client import Registry


async def run(conn: Connection, text: str) -> None:
    await conn.run(Statement(text, {}))


async def forget_new_packages(db: Database) -> None:
    """Makes the log of two packages one of a release that did not write `package.created`."""
    async with db.transaction() as conn:
        await run(conn, "DELETE FROM changes")
        await run(conn, "DELETE FROM events WHERE type = 'package.created'")
        await run(conn, "UPDATE events SET seq = CASE seq WHEN 2 THEN 1 WHEN 4 THEN 2 ELSE seq END")


async def test_an_older_release_wrote_no_event_of_a_new_package(registry: Registry):
    ada = await registry.user()
    await ada.publish("first")
    await ada.publish("second")
    await forget_new_packages(registry.app[DB])
    async with registry.app[DB].transaction() as conn:
        assert await last_seq(conn) == 2
        assert (await store.gaps(conn)).count == (await store.missing_events(conn)).count == 0


async def test_the_event_of_a_new_package_is_missed_even_if_that_of_its_first_version_is_lost(registry: Registry):
    ada = await registry.user()
    await ada.publish("first")
    await ada.publish("second", "1.0.0")
    await ada.publish("second", "2.0.0")
    async with registry.app[DB].transaction() as conn:
        await run(conn, "DELETE FROM changes")
        await run(conn, "DELETE FROM events WHERE package = 'second' AND coalesce(version, '1.0.0') = '1.0.0'")
        found = await store.missing_events(conn)
        assert sorted(found.examples) == ["package.created of second", "version.published of second 1.0.0"]
        await store.fill_gaps(conn)
        await store.append_missing_events(conn)
        assert (await store.gaps(conn)).count == (await store.missing_events(conn)).count == 0
        appended = await conn.all(Statement("SELECT type FROM events WHERE seq > 5 ORDER BY seq", {}))
        assert [row.type for row in appended] == ["package.created", "version.published"]
