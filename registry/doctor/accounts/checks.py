"""Checks that deleted accounts have left nothing, that inviters are owners, and that admins close reports."""

from datetime import timedelta
from functools import partial

from registry.accounts import store as accounts
from registry.accounts.sessions import store as sessions
from registry.db.engine import Connection
from registry.doctor.accounts import store
from registry.doctor.check import Check, Found, Registry, pages, writing
from registry.events import log as event_log
from registry.factors import store as factors
from registry.owners import store as invitations
from registry.packages.owners import store as roles
from registry.publishers import store as publishers
from registry.webhooks import store as webhooks

# A report that an admin has not closed after this time is overlooked.
OVERLOOKED = timedelta(days=7)
PAGE = 500


async def _find_left(registry: Registry) -> Found:
    found = Found()
    async for rows in pages(registry, store.left_by_ended, "id", 0, PAGE):
        for row in rows:
            for thing in row.things:
                found.add(f"{row.username} (user {row.id}) still has {thing}")
    return found


async def _end_left(registry: Registry) -> None:
    async for rows in pages(registry, store.left_by_ended, "id", 0, PAGE):
        for row in rows:
            async with registry.db.transaction() as conn:
                await _end(conn, row.id)


async def _end(conn: Connection, user_id: int) -> None:
    held = await roles.lock_packages_of(conn, user_id)
    await roles.remove_user(conn, user_id)
    await invitations.end_of_account(conn, user_id, None)
    await publishers.end_of_account(conn, user_id)
    await webhooks.end_of_account(conn, user_id)
    await factors.delete_all(conn, user_id)
    await sessions.end_all(conn, user_id)
    await accounts.delete_api_tokens(conn, user_id)
    for package in held:
        await event_log.append(
            conn, event_log.PACKAGE_OWNERS_CHANGED, package_id=package.id, package=package.name, actor_id=None
        )


async def _find_invitations(registry: Registry) -> Found:
    found = Found()
    async for rows in pages(registry, store.invitations_without_right, "id", 0, PAGE):
        for row in rows:
            found.add(f"invitation {row.id} to {row.package} by {row.inviter}")
    return found


async def _find_reports(registry: Registry) -> Found:
    found = Found()
    async for rows in pages(registry, partial(store.waiting_reports, age=OVERLOOKED), "id", 0, PAGE):
        for row in rows:
            found.add(f"report {row.id} ({row.kind}) of {row.package}, open since {row.created_at:%Y-%m-%d}")
    return found


CHECKS = (
    Check(
        "deleted accounts",
        "a deleted account has no role, invitation, pending publisher, webhook, token or factor",
        "end them, as the deletion of an account does; then `owners` names packages that need an owner",
        _find_left,
        _end_left,
    ),
    Check(
        "invitations",
        "whoever sent an open invitation is an owner of its package",
        "delete these invitations",
        _find_invitations,
        writing(store.end_invitations_without_right),
    ),
    Check(
        "reports",
        "an admin closes each report of a package within a week",
        "read them at GET /api/v1/admin/reports, quarantine the package if need be, and close them",
        _find_reports,
    ),
)
