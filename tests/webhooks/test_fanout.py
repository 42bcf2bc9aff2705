"""The consumer that makes deliveries."""

from registry.changes.log import ChangeLog
from registry.db.engine import Database
from registry.events import log as event_log
from registry.webhooks.deliveries.fanout import fan_out
from tests.changes.events import append, sql, value

CHAINED = "SELECT count(*) FROM changes"


async def test_the_log_is_chained_for_webhooks_only_if_there_are_any(db: Database):
    await append(db, 3)
    async with db.read() as conn:
        events = await event_log.read_after(conn, 0, 10)
    await fan_out(db, ChangeLog(db), events)
    assert await value(db, CHAINED) == 0
    await sql(db, "INSERT INTO users (username, password_hash, role) VALUES ('ada', '', 'admin')")
    await sql(
        db,
        "INSERT INTO webhooks (user_id, url, host, scope, events, secret, since_seq) "
        "SELECT id, 'https://ci.example/', 'ci.example:443', 'all', '{*}', '', 0 FROM users",
    )
    await fan_out(db, ChangeLog(db), events)
    assert await value(db, CHAINED) == 3
    assert await value(db, "SELECT count(*) FROM webhook_deliveries") == 3
