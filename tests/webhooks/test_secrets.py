"""Secrets of webhooks follow the newest key of REGISTRY_SECRET_KEY."""

from registry.db.engine import Statement
from registry.keys import DB
from registry.sealing import Sealer
from registry.webhooks.hooks import PURPOSE
from registry.webhooks.secrets import reseal
from tests.client import Registry

OLD, NEW, OTHER = (f"{name}-0123456789abcdefghijklmnopqrstuvwxyz" for name in ("old", "new", "other"))


async def test_secrets_follow_the_newest_key(registry: Registry):
    db, ada = registry.app[DB], await registry.user()
    old, new = Sealer([OLD], PURPOSE), Sealer([NEW], PURPOSE)
    lost = Sealer([OTHER], PURPOSE).seal(b"lost")
    rows = [(old.seal(b"one"), old.seal(b"before")), (new.seal(b"two"), None), (old.seal(b"three"), lost), (lost, None)]
    async with db.transaction() as conn:
        for secret, before in rows:
            await conn.run(
                Statement(
                    "INSERT INTO webhooks (user_id, url, host, scope, events, secret, old_secret, since_seq) VALUES "
                    "(%(user)s, 'https://ci.example/', 'ci.example:443', 'owner', '{*}', %(secret)s, %(before)s, 0)",
                    {},
                ),
                user=ada.id,
                secret=secret,
                before=before,
            )
    assert await reseal(db, [NEW, OLD]) == 2
    assert await reseal(db, [NEW, OLD]) == 0
    async with db.read() as conn:
        found = await conn.all(Statement("SELECT secret, old_secret FROM webhooks ORDER BY id", {}))
    assert [new.open(row.secret) for row in found[:3]] == [b"one", b"two", b"three"]
    assert new.open(found[0].old_secret) == b"before"
    assert found[2].old_secret is None
    assert found[3].secret == lost
