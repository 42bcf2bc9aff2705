"""Mail about acts, queued as jobs in the transaction of the act. `registry.mail` writes and sends it.

The addresses are read in that transaction, because an act may change them or end the account. While mail is not
configured, the jobs are removed without sending anything.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from registry.db.engine import Connection, Statement, json, statement
from registry.events.details import users_in

KIND = "mail"
"""The kind of the jobs. Each sends one mail to one address."""

MAX_ATTEMPTS = 20
INVITATION_DELAY = timedelta(seconds=10)
"""Invitations of the same person that are sent within this time go into one mail."""

PUBLISH = "version.publish"
INVITED = frozenset({"owner.invite", "package.transfer"})
ACCOUNT = frozenset({
    "account.delete", "factor.add", "factor.recovery_codes", "factor.remove", "factor.reset", "password.change",
    "password.reset", "token.create", "user.create", "webhook.disable",
})  # fmt: skip
OWNERS = frozenset({"owner.accept", "owner.remove", "owner.role", "owner.set", "publisher.create", "publisher.delete"})

_QUEUE = """
    INSERT INTO jobs (kind, payload, max_attempts, run_at)
    SELECT :mail_kind, CAST(:mail_payload AS jsonb) || jsonb_build_object(
        'to', told.email, 'user_id', told.id, 'name', told.username
    ), :mail_attempts, now() + CAST(:mail_delay AS interval)
"""
_TELL = statement(
    sa.text(f"""
    {_QUEUE} FROM (
        SELECT id, email, username FROM users
        WHERE email IS NOT NULL AND deleted_at IS NULL AND (
            id = ANY(CAST(:mail_users AS bigint[]))
            OR id IN (SELECT user_id FROM package_owners WHERE package_id = :mail_owners_of AND role = 'owner')
        )
        UNION ALL SELECT NULL, CAST(:mail_address AS text), NULL WHERE CAST(:mail_address AS text) IS NOT NULL
    ) AS told
    """)  # noqa: S608 - constants
)
# SKIP LOCKED: a publish holds the lock of the event log here, so it must not wait for a change of the token.
_TELL_FIRST_PUBLISH = statement(
    sa.text(f"""
    WITH published AS (
        UPDATE api_tokens SET has_published = true
        WHERE id = (SELECT id FROM api_tokens WHERE id = :mail_token AND NOT has_published FOR UPDATE SKIP LOCKED)
        RETURNING user_id
    )
    {_QUEUE} FROM users AS told JOIN published ON published.user_id = told.id WHERE told.email IS NOT NULL
    """)  # noqa: S608 - constants
)


def about(
    action: str,
    *,
    account_id: int | None,
    package_id: int | None,
    token_id: int | None,
    is_exchanged: bool,
    details: Mapping[str, Any],
    address: str | None,
    facts: Mapping[str, Any],
) -> tuple[Statement, dict[str, Any]] | None:
    """The statement and its values that queue the mail about an act; None if nobody gets a mail.

    `address` gets a mail in addition to users. The texts of the mail are made from `facts`.
    """
    values = {
        "mail_kind": KIND,
        "mail_payload": json({"action": action, **facts}),
        "mail_attempts": MAX_ATTEMPTS,
        "mail_delay": INVITATION_DELAY if action in INVITED else timedelta(0),
    }
    if action == PUBLISH and token_id is not None and not is_exchanged:
        return _TELL_FIRST_PUBLISH, {**values, "mail_token": token_id}
    users = set(users_in(details)) if action in OWNERS | INVITED else set()
    if account_id is not None and action in ACCOUNT | OWNERS:
        users.add(account_id)
    owners_of = package_id if action in OWNERS else None
    if not users and owners_of is None and address is None:
        return None
    return _TELL, {**values, "mail_users": list(users), "mail_owners_of": owners_of, "mail_address": address}


async def tell(conn: Connection, queued: tuple[Statement, dict[str, Any]] | None) -> None:
    """Queues the mail of `about`."""
    if queued is not None:
        await conn.run(queued[0], **queued[1])
