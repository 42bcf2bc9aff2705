"""Revokes tokens that were found in public. Anyone who has a token may revoke it, so no other proof is needed."""

import contextlib
import logging

from registry.accounts import store, tokens
from registry.db.engine import Database
from registry.errors import Unauthorized
from registry.events import audit
from registry.events.audit import UNKNOWN_ORIGIN, Actor, Origin
from registry.setting_parts import AccountSettings

log = logging.getLogger(__name__)

# Longer URLs and sources are cut to this many characters.
MAX_PLACE = 500


async def revoke_leaked(
    db: Database,
    settings: AccountSettings,
    token: str,
    url: str = "",
    source: str = "",
    origin: Origin = UNKNOWN_ORIGIN,
) -> bool:
    """Revokes an API token, a login or a browser's session. Returns whether this registry issued `token`.

    A repeated call changes nothing.
    `url` is where the token was found, `source` is the kind of place. The owner of an API token sees both.
    """
    # The URL itself may contain the token.
    url, source = (text.replace(token, "…")[:MAX_PLACE] if token else "" for text in (url, source))
    if tokens.looks_like_api_token(token):
        return await _revoke_api_token(db, token, url, source, Actor(origin=origin))
    claims = _claims(settings, token)
    if claims is None:
        return False
    async with db.transaction() as conn:
        if await store.revoke(conn, claims.user_id, claims.jti, claims.expires_at):
            where, actor = {"found_at": url, "source": source}, Actor(origin=origin)
            audit.write_with_commit(conn, "login.leak", actor, account_id=claims.user_id, details=where)
    log.warning("leaked login revoked", extra={"user_id": claims.user_id, "found_at": url, "source": source})
    return True


def _claims(settings: AccountSettings, token: str) -> tokens.Claims | None:
    """The claims of a token for a header or for a cookie. None if this registry did not issue it."""
    for audience in (None, tokens.BROWSER):
        with contextlib.suppress(Unauthorized):
            return tokens.read(token, settings, audience=audience)
    return None


async def _revoke_api_token(db: Database, token: str, url: str, source: str, actor: Actor) -> bool:
    if not tokens.checksum_holds(token):
        return False
    token_hash = tokens.hash_api_token(token)
    async with db.transaction() as conn:
        revoked = await store.report_api_token(conn, token_hash, url=url, source=source)
        found = revoked or await store.api_token_by_hash(conn, token_hash)
        where = {"found_at": url, "source": source}
        if revoked:
            details = {"token": revoked[1].id, "name": revoked[1].name, **where}
            audit.write_with_commit(conn, "token.leak", actor, account_id=revoked[0].id, details=details)
    if revoked:
        user, kept = revoked
        log.warning("leaked api token revoked", extra={"user_id": user.id, "token_id": kept.id, **where})
    return found is not None
