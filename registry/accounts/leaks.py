"""Revokes tokens that were found in public. Anyone who has a token may revoke it, so no other proof is needed."""

import logging

from registry.accounts import store, tokens
from registry.db.engine import Database
from registry.errors import Unauthorized
from registry.setting_parts import AccountSettings

log = logging.getLogger(__name__)

# Longer URLs and sources are cut to this many characters.
MAX_PLACE = 500


async def revoke_leaked(db: Database, settings: AccountSettings, token: str, url: str = "", source: str = "") -> bool:
    """Revokes an API token or a login. Returns whether this registry issued `token`. A repeated call changes nothing.

    `url` is where the token was found, `source` is the kind of place. The owner of an API token sees both.
    """
    # The URL itself may contain the token.
    url, source = (text.replace(token, "…")[:MAX_PLACE] if token else "" for text in (url, source))
    if tokens.looks_like_api_token(token):
        return await _revoke_api_token(db, token, url, source)
    try:
        claims = tokens.read(token, settings)
    except Unauthorized:
        return False
    async with db.transaction() as conn:
        await store.revoke(conn, claims.jti, claims.expires_at)
    log.warning("leaked login revoked", extra={"user_id": claims.user_id, "found_at": url, "source": source})
    return True


async def _revoke_api_token(db: Database, token: str, url: str, source: str) -> bool:
    if not tokens.checksum_holds(token):
        return False
    token_hash = tokens.hash_api_token(token)
    async with db.transaction() as conn:
        revoked = await store.report_api_token(conn, token_hash, url=url, source=source)
        found = revoked or await store.api_token_by_hash(conn, token_hash)
    if revoked:
        user, kept = revoked
        where = {"found_at": url, "source": source}
        log.warning("leaked api token revoked", extra={"user_id": user.id, "token_id": kept.id, **where})
    return found is not None
