"""The audit log: written with the act, never changed afterwards."""

import psycopg2.errors
import pytest
import sqlalchemy as sa

from registry.db.engine import Database, Row, statement
from registry.db.tables import audit_entries
from registry.events import audit
from registry.events.audit import Actor, Origin

ADA = Actor(7, 3, "ci", {"kind": "github"}, Origin("203.0.113.0", "client/1"))
ALL = statement(sa.select(audit_entries).order_by(audit_entries.c.id))
CHANGES = {
    "UPDATE": statement(sa.update(audit_entries).values(action="nothing")),
    "DELETE": statement(sa.delete(audit_entries)),
    "TRUNCATE": statement(sa.text("TRUNCATE audit_entries")),
}


async def entries(db: Database) -> list[Row]:
    async with db.read() as conn:
        return await conn.all(ALL)


async def test_an_entry_says_who_by_what_and_from_where(db: Database):
    async with db.transaction() as conn:
        await audit.write(conn, "version.yank", ADA, package_id=5, version="1.0.0", details={"reason": "broken"})
    (entry,) = await entries(db)
    assert (entry.action, entry.actor_id, entry.token_id, entry.token_name) == ("version.yank", 7, 3, "ci")
    assert (entry.publisher, entry.ip, entry.user_agent) == ({"kind": "github"}, "203.0.113.0", "client/1")
    assert (entry.account_id, entry.package_id, entry.version) == (7, 5, "1.0.0")
    assert entry.details == {"reason": "broken"}


async def test_an_entry_exists_only_if_the_act_took_place(db: Database):
    with pytest.raises(KeyError):
        async with db.transaction() as conn:
            await audit.write(conn, "owner.invite", ADA)
            audit.write_with_commit(conn, "owner.remove", ADA)
            raise KeyError
    assert await entries(db) == []


async def test_an_entry_may_be_written_with_the_commit(db: Database):
    async with db.transaction() as conn:
        await conn.all(ALL)
        audit.write_with_commit(conn, "version.publish", ADA, package_id=5, version="1.0.0")
    assert [entry.action for entry in await entries(db)] == ["version.publish"]


async def test_a_long_user_agent_is_cut(db: Database):
    async with db.transaction() as conn:
        await audit.write(conn, "login.fail", Actor(origin=Origin(None, "x" * 10_000)), account_id=9)
    (entry,) = await entries(db)
    assert (entry.actor_id, entry.account_id, entry.ip, len(entry.user_agent)) == (None, 9, None, 512)


@pytest.mark.parametrize("change", CHANGES)
async def test_the_database_refuses_to_change_entries(db: Database, change: str):
    async with db.transaction() as conn:
        await audit.write(conn, "login.succeed", ADA)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="can't be changed"):
        async with db.transaction() as conn:
            await conn.run(CHANGES[change])
    assert len(await entries(db)) == 1


async def test_only_the_retention_may_delete(db: Database):
    async with db.transaction() as conn:
        await audit.write(conn, "login.succeed", ADA)
    async with db.transaction() as conn:
        await conn.command("SET LOCAL registry.audit_retention = 'on'")
        await conn.run(CHANGES["DELETE"])
    assert await entries(db) == []
