"""Exchanges the ID token of a CI job for an API token that publishes one package for 15 minutes."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import Counter

from registry.accounts import store as accounts
from registry.accounts import tokens
from registry.db.engine import Connection, Database, Row
from registry.errors import OidcRefused
from registry.events import audit
from registry.events.audit import Actor, Origin
from registry.package_format import names
from registry.publishers import id_tokens, matching, store
from registry.publishers.id_tokens import IdToken, refused
from registry.publishers.issuers import Issuer, Issuers
from registry.publishers.manage import MAX_OF_PACKAGE
from registry.publishers.matching import Publisher

log = logging.getLogger(__name__)

EXCHANGES = Counter("registry_oidc_exchanges_total", "ID tokens that CI jobs sent, by the result", ["result"])

VALID_FOR = timedelta(minutes=15)
MAX_CANDIDATES = 500
TOKEN_NAME = "trusted publisher"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides. Without an `audience`, every ID token is refused."""

    audience: str | None
    is_private: bool


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The publishers for a name. `package` is None if there is no such package; then the publishers are pending."""

    name: str
    package: Row | None
    publishers: Sequence[Publisher]


def _utc_now() -> datetime:
    return datetime.now(UTC)


async def exchange(
    db: Database,
    issuers: Issuers,
    policy: Policy,
    id_token: str,
    package: str,
    origin: Origin,
    *,
    now: Callable[[], datetime] = _utc_now,
) -> tuple[str, datetime]:
    """(an API token, when it expires). Raises OidcRefused with its reason, and IssuerUnavailable."""
    try:
        issuer, verified = await _verified(issuers, policy, id_token, now())
        async with db.read() as conn:
            candidates = await _candidates(conn, package)
        chosen = _choose(candidates, issuer, verified, policy)
        answer = await _issue(db, candidates, chosen, verified, origin, now())
    except OidcRefused as refusal:
        EXCHANGES.labels(refusal.members["reason"]).inc()
        log.info("id token refused", extra={"package": package[: names.MAX_NAME], "reason": refusal.members["reason"]})
        raise
    EXCHANGES.labels("exchanged").inc()
    return answer


async def _verified(issuers: Issuers, policy: Policy, text: str, now: datetime) -> tuple[Issuer, IdToken]:
    unverified = id_tokens.parse(text)
    issuer = issuers.find(unverified.issuer)
    if issuer is None:
        raise refused("issuer", "The issuer of the ID token is not one that this registry allows.")
    key = await issuers.key(issuer, unverified.kid, unverified.algorithm)
    if key is None:
        raise refused("signature", "The issuer has no key for the signature of the ID token.")
    return issuer, id_tokens.verify(unverified, key, policy.audience, now)


async def _candidates(conn: Connection, name: str) -> _Candidates:
    folded = names.fold_name(name) or ""
    package = await store.package_like(conn, folded) if folded else None
    if package is None:
        rows = await store.pending_for(conn, folded, MAX_CANDIDATES) if folded else []
    else:
        rows = await store.of_package(conn, package.id, 0, MAX_OF_PACKAGE) if package.name == folded else []
    return _Candidates(folded, package, [store.publisher_of(row) for row in rows])


def _choose(candidates: _Candidates, issuer: Issuer, token: IdToken, policy: Policy) -> Publisher:
    """The publisher that fits the token. Raises OidcRefused."""
    found = matching.find(candidates.publishers, token.claims)
    if not found:
        raise _no_fit(candidates, issuer, token, policy)
    if candidates.package is None and len({each.user_id for each in found}) > 1:
        # If the registry chose one, the first of them could take the name of somebody else's package.
        raise refused(
            "claims",
            f"Several users have a pending publisher of this workflow for {candidates.name}. Publish the first "
            "version with an API token.",
            claims=matching.shown(issuer.kind, token.claims, ()),
        )
    return found[0]


def _no_fit(candidates: _Candidates, issuer: Issuer, token: IdToken, policy: Policy) -> OidcRefused:
    publishers = candidates.publishers if candidates.package is not None else ()
    near = matching.nearest(publishers, token.claims, owned_only=policy.is_private)
    told = publishers if near is not None else ()
    members: dict[str, Any] = {"claims": matching.shown(issuer.kind, token.claims, told)}
    detail = "No trusted publisher of this package fits the ID token; `claims` shows what it says."
    if near is not None:
        members["differs"] = near.members
        detail = f"The nearest trusted publisher of this package differs in: {', '.join(near.members)}."
        if near.is_only_case:
            members["hint"] = "case"
            detail += " Only upper and lower case differ."
    return refused("claims", detail, **members)


async def _issue(
    db: Database, candidates: _Candidates, chosen: Publisher, token: IdToken, origin: Origin, now: datetime
) -> tuple[str, datetime]:
    """Creates the API token. Uses up the ID token, and binds the publisher to the numbers of its repository."""
    text, expires_at = tokens.make_api_token(), now + VALID_FOR
    async with db.transaction() as conn:
        user_id = await _lock(conn, chosen, token)
        if not await store.use_id_token(conn, _key(token), token.uses_until):
            raise refused("replayed", "The ID token was used before. Request a new one for each exchange.")
        await store.use(conn, chosen.id, matching.ids_of(chosen.kind, token.claims))
        publisher = {"id": chosen.id, **matching.provenance(chosen.kind, token.claims)}
        kept = await accounts.add_api_token(
            conn,
            user_id,
            name=TOKEN_NAME,
            token_hash=tokens.hash_api_token(text),
            scopes=["publish"],
            packages=[candidates.name],
            expires_at=expires_at,
            publisher=publisher,
        )
        actor = Actor(user_id, kept.id, TOKEN_NAME, publisher, origin)
        audit.write_with_commit(
            conn, "token.exchange", actor, package_id=chosen.package_id, details={"package": candidates.name}
        )
    log.info("id token exchanged", extra={"package": candidates.name, "publisher_id": chosen.id, "token_id": kept.id})
    return text, expires_at


async def _lock(conn: Connection, chosen: Publisher, token: IdToken) -> int:
    """Locks the publisher. Returns the user for whom it publishes.

    Raises OidcRefused if it was removed, bound or given to a package since it was read, or if the package has no owner.
    """
    row = await store.lock(conn, chosen.id)
    current = None if row is None else store.publisher_of(row)
    user_id: int | None = None
    if current is not None and current.package_id == chosen.package_id and matching.find([current], token.claims):
        user_id = current.user_id
        if current.package_id is not None:
            user_id = await store.acting_user(conn, current.package_id, current.user_id)
    if user_id is None:
        claims = matching.shown(chosen.kind, token.claims, ())
        raise refused("claims", "No trusted publisher of this package fits the ID token.", claims=claims)
    return user_id


def _key(token: IdToken) -> str:
    return hashlib.sha256(f"{token.issuer}\n{token.jti}".encode()).hexdigest()
