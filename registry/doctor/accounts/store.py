"""The SQL of the checks about accounts, invitations and reports. Every function commits nothing."""

from datetime import timedelta

import sqlalchemy as sa

from registry.db.engine import Connection, Row, statement
from registry.packages.rights import OWNER

# Each row names a user whose account was deleted, and the things that should have ended with it.
_LEFT = statement(
    sa.text("""
    SELECT u.id, u.username, array_agg(l.what || ': ' || l.number ORDER BY l.what) AS things
    FROM users AS u CROSS JOIN LATERAL (VALUES
        ('roles in packages', (SELECT count(*) FROM package_owners AS o WHERE o.user_id = u.id)),
        ('invitations', (SELECT count(*) FROM invitations AS i WHERE u.id IN (i.user_id, i.inviter_id))),
        ('pending publishers',
            (SELECT count(*) FROM publishers AS s WHERE s.user_id = u.id AND s.pending_name IS NOT NULL)),
        ('webhooks', (SELECT count(*) FROM webhooks AS h WHERE h.user_id = u.id AND h.deleted_at IS NULL)),
        ('API tokens', (SELECT count(*) FROM api_tokens AS t WHERE t.user_id = u.id)),
        ('authenticator apps', (SELECT count(*) FROM totp_secrets AS t WHERE t.user_id = u.id)),
        ('passkeys', (SELECT count(*) FROM passkeys AS k WHERE k.user_id = u.id)),
        ('recovery codes', (SELECT count(*) FROM recovery_codes AS c WHERE c.user_id = u.id))
    ) AS l (what, number)
    WHERE u.deleted_at IS NOT NULL AND l.number > 0 AND u.id > :after
    GROUP BY u.id, u.username ORDER BY u.id LIMIT :count
    """)
)
_WITHOUT_RIGHT = f"""
    FROM invitations AS i JOIN packages AS p ON p.id = i.package_id JOIN users AS u ON u.id = i.inviter_id
    WHERE i.expires_at > now() AND NOT EXISTS (
        SELECT FROM package_owners AS o
        WHERE o.package_id = i.package_id AND o.user_id = i.inviter_id AND o.role = '{OWNER}'
    )
"""
_INVITATIONS = statement(
    sa.text(f"""
    SELECT i.id, p.name AS package, u.username AS inviter {_WITHOUT_RIGHT} AND i.id > :after ORDER BY i.id LIMIT :count
    """)
)
_END_INVITATIONS = statement(sa.text(f"DELETE FROM invitations WHERE id IN (SELECT i.id {_WITHOUT_RIGHT})"))
_WAITING = statement(
    sa.text("""
    SELECT r.id, r.kind, p.name AS package, r.created_at FROM reports AS r JOIN packages AS p ON p.id = r.package_id
    WHERE r.closed_at IS NULL AND r.created_at < now() - CAST(:age AS interval) AND r.id > :after
    ORDER BY r.id LIMIT :count
    """)
)


async def left_by_ended(conn: Connection, after: int, count: int) -> list[Row]:
    """(id, username, things) of deleted accounts with ids above `after`. `things` are texts such as `passkeys: 2`."""
    return await conn.all(_LEFT, after=after, count=count)


async def invitations_without_right(conn: Connection, after: int, count: int) -> list[Row]:
    """(id, package, inviter) of open invitations whose inviter is no owner of the package any more."""
    return await conn.all(_INVITATIONS, after=after, count=count)


async def end_invitations_without_right(conn: Connection) -> None:
    await conn.run(_END_INVITATIONS)


async def waiting_reports(conn: Connection, after: int, count: int, *, age: timedelta) -> list[Row]:
    """(id, kind, package, created_at) of reports with ids above `after` that have been open for longer than `age`."""
    return await conn.all(_WAITING, age=age, after=after, count=count)
