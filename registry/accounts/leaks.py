"""Tokens that somebody found where others can read them. Whoever holds a token may end it: it needs no other proof."""

import logging

from registry.accounts import store, tokens
from registry.db.engine import Database
from registry.errors import Unauthorized
from registry.settings import AccountSettings

log = logging.getLogger(__name__)

# Of the place and of who found it this much is kept.
MOST_KEPT = 500


async def revoke_leaked(db: Database, settings: AccountSettings, token: str, url: str = "", source: str = "") -> bool:
    """Ends an API token or a login for good; whether `token` is one of ours. Doing it again changes nothing.

    `url` is where it was found, `source` what kind of place that is; an API token's owner sees both.
    """
    # An address may hold the very secret it leads to.
    url, source = (text.replace(token, "…")[:MOST_KEPT] if token else "" for text in (url, source))
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
