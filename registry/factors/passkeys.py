"""Passkeys (WebAuthn): adds and removes them, and verifies what they sign."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import webauthn
from typing_extensions import TypedDict
from webauthn.helpers import (
    options_to_json_dict,
    parse_authentication_credential_json,
    parse_client_data_json,
    parse_registration_credential_json,
)
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from registry.accounts.identity import Principal
from registry.accounts.sessions.manage import lock_user
from registry.db.engine import Connection, ConstraintViolated, Database, Row
from registry.errors import Conflict, InvalidInput, NotFound, PasskeysNotConfigured, Unauthorized
from registry.events import audit
from registry.factors import codes, nonces, proof, store, totp
from registry.factors.proof import PASSKEY, Proof
from registry.setting_parts import AccountSettings
from registry.web.addresses import is_ip

log = logging.getLogger(__name__)

MAX_PASSKEYS = 20
MAX_NAME = 100
MAX_CREDENTIAL_ID = 1023  # the limit of WebAuthn
TIMEOUT_MS = int(nonces.VALID_FOR.total_seconds() * 1000)

NOT_ACCEPTED = "The passkey was not accepted. Ask for new options and try again."
NOT_VERIFIED = (
    "This passkey did not verify you by a PIN or biometrics. Sign in with your password, and use it after that."
)


class Passkey(TypedDict):
    id: int
    name: str
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Site:
    """The site that passkeys belong to: its host name and its origin."""

    host: str
    origin: str


def site_of(public_url: str | None) -> Site:
    """Raises PasskeysNotConfigured unless `public_url` has a host name."""
    host = urlsplit(public_url or "").hostname or ""
    if public_url and host and not is_ip(host):
        return Site(host, public_url)
    raise PasskeysNotConfigured("Passkeys need REGISTRY_PUBLIC_URL with a host name: they don't work on an IP address.")


def site_or_none(public_url: str | None) -> Site | None:
    """Like `site_of`. None where passkeys don't work."""
    try:
        return site_of(public_url)
    except PasskeysNotConfigured:
        return None


async def registration_options(
    db: Database, settings: AccountSettings, principal: Principal, given: Proof, address: str, site: Site
) -> dict[str, Any]:
    """PublicKeyCredentialCreationOptions as JSON.

    Raises Forbidden, ConfirmationRequired, TooManyFailures, and Conflict if the user has MAX_PASSKEYS.
    """
    user = await proof.confirm(db, settings, principal, given, address)
    async with db.read() as conn:
        keys = await store.passkeys_of(conn, user.id)
    _check_number(len(keys))
    options = webauthn.generate_registration_options(
        rp_id=site.host,
        rp_name=codes.ISSUER,
        user_name=user.username,
        user_id=_handle(user.id),
        user_display_name=user.username,
        challenge=nonces.make(settings.secret_keys, nonces.registration_of(user.id), datetime.now(UTC)),
        timeout=TIMEOUT_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.PREFERRED
        ),
        exclude_credentials=_descriptors(keys),
    )
    return options_to_json_dict(options)


async def register(
    db: Database, settings: AccountSettings, principal: Principal, credential: dict[str, Any], name: str, site: Site
) -> tuple[Passkey, list[str]]:
    """Adds a passkey. Returns it, and recovery codes if the user had none.

    `credential` is a RegistrationResponseJSON that answers `registration_options`.
    Raises Forbidden, InvalidInput if it is not valid, Conflict if it is registered already.
    """
    principal.require_login()
    try:
        parsed = parse_registration_credential_json(credential)
        challenge = parse_client_data_json(parsed.response.client_data_json).challenge
        verified = webauthn.verify_registration_response(
            credential=parsed, expected_challenge=challenge, expected_rp_id=site.host, expected_origin=site.origin
        )
    except Exception as error:  # noqa: BLE001 - the library raises errors of many kinds for malformed input
        log.info("passkey refused", extra={"user_id": principal.user_id, "reason": f"{type(error).__name__}: {error}"})
        raise InvalidInput.field("response", "is not a valid registration of a passkey for this registry") from None
    expires_at = nonces.expiry(
        settings.secret_keys, nonces.registration_of(principal.user_id), challenge, datetime.now(UTC)
    )
    async with db.transaction() as conn:
        await lock_user(conn, principal)
        if expires_at is None or not await store.spend(conn, _digest(challenge), expires_at):
            raise InvalidInput.field("response", "answers a challenge that is over: ask for new options")
        before = await store.summary(conn, principal.user_id)
        _check_number(before.passkeys)
        transports = [each.value for each in parsed.response.transports or ()]
        row = await _add(conn, principal.user_id, verified, transports, name)
        fresh = [] if before.recovery_codes else await totp.renew_recovery_codes(conn, principal.user_id)
        details = {"factor": PASSKEY, "passkey": row.id, "name": name}
        audit.write_with_commit(conn, "factor.add", principal.actor, details=details)
    log.info("factor added", extra={"user_id": principal.user_id, "factor": PASSKEY})
    return _passkey(row), fresh


async def list_passkeys(db: Database, principal: Principal, after: int, count: int) -> list[Passkey]:
    """Up to `count` passkeys of the user with ids above `after`. Raises Forbidden for an API token."""
    principal.require_login()
    async with db.read() as conn:
        return [_passkey(row) for row in await store.passkeys_of(conn, principal.user_id, after, count)]


async def remove(
    db: Database, settings: AccountSettings, principal: Principal, key: int, given: Proof, address: str
) -> None:
    """Removes a passkey of the user. Raises Forbidden, ConfirmationRequired, TooManyFailures, NotFound."""
    await proof.confirm(db, settings, principal, given, address)
    async with db.transaction() as conn:
        await lock_user(conn, principal)
        removed = await store.delete_passkey(conn, principal.user_id, key)
        if removed is None:
            raise NotFound("You have no passkey with this id.")
        await totp.drop_codes_without_factor(conn, principal.user_id)
        details = {"factor": PASSKEY, "passkey": removed.id, "name": removed.name}
        audit.write_with_commit(conn, "factor.remove", principal.actor, details=details)
    log.info("factor removed", extra={"user_id": principal.user_id, "factor": PASSKEY})


def login_options(settings: AccountSettings, site: Site, keys: Sequence[Row] | None = None) -> dict[str, Any]:
    """PublicKeyCredentialRequestOptions as JSON.

    `keys` are the passkeys of a user whose password was right. Without them, any passkey may sign, and it must verify
    the user.
    """
    wanted = UserVerificationRequirement.REQUIRED if keys is None else UserVerificationRequirement.PREFERRED
    options = webauthn.generate_authentication_options(
        rp_id=site.host,
        challenge=nonces.make(settings.secret_keys, nonces.LOGIN, datetime.now(UTC)),
        timeout=TIMEOUT_MS,
        allow_credentials=_descriptors(keys or ()),
        user_verification=wanted,
    )
    return options_to_json_dict(options)


async def verify(
    conn: Connection, settings: AccountSettings, credential: dict[str, Any], site: Site, *, must_verify_user: bool
) -> int:
    """Returns the id of the user whose passkey signed, and records the use.

    `credential` is an AuthenticationResponseJSON that answers `login_options`. Raises Unauthorized.
    """
    try:
        parsed = parse_authentication_credential_json(credential)
        challenge = parse_client_data_json(parsed.response.client_data_json).challenge
    except Exception as error:  # noqa: BLE001 - the library raises errors of many kinds for malformed input
        raise _refused(None, error) from None
    key = await store.passkey(conn, parsed.raw_id[: MAX_CREDENTIAL_ID + 1])
    if key is None or parsed.response.user_handle not in (None, b"", _handle(key.user_id)):
        raise _refused(None, "unknown")
    try:
        verified = webauthn.verify_authentication_response(
            credential=parsed,
            expected_challenge=challenge,
            expected_rp_id=site.host,
            expected_origin=site.origin,
            credential_public_key=bytes(key.public_key),
            credential_current_sign_count=key.sign_count,
        )
    except Exception as error:  # noqa: BLE001 - the library raises errors of many kinds for malformed input
        raise _refused(key, error) from None
    if must_verify_user and not verified.user_verified:
        raise Unauthorized(NOT_VERIFIED)
    expires_at = nonces.expiry(settings.secret_keys, nonces.LOGIN, challenge, datetime.now(UTC))
    if expires_at is None or not await store.spend(conn, _digest(challenge), expires_at):
        raise _refused(key, "the challenge is over")
    if not await store.use_passkey(conn, key.id, verified.new_sign_count):
        raise _refused(key, "the counter did not rise")
    return int(key.user_id)


async def _add(conn: Connection, user_id: int, verified: Any, transports: list[str], name: str) -> Row:
    if len(verified.credential_id) > MAX_CREDENTIAL_ID:
        raise InvalidInput.field("id", f"must have at most {MAX_CREDENTIAL_ID} bytes")
    try:
        return await store.add_passkey(
            conn,
            user_id,
            credential_id=verified.credential_id,
            public_key=verified.credential_public_key,
            sign_count=verified.sign_count,
            transports=transports,
            name=name,
        )
    except ConstraintViolated:
        raise Conflict("This passkey is registered already.") from None


def _check_number(number: int) -> None:
    if number >= MAX_PASSKEYS:
        raise Conflict(f"You have {MAX_PASSKEYS} passkeys, which is the limit. Remove one first.")


def _refused(key: Row | None, reason: str | Exception) -> Unauthorized:
    user_id = key.user_id if key is not None else None
    text = reason if isinstance(reason, str) else f"{type(reason).__name__}: {reason}"
    log.info("passkey refused", extra={"user_id": user_id, "reason": text})
    return Unauthorized(NOT_ACCEPTED)


def _passkey(row: Row) -> Passkey:
    return {"id": row.id, "name": row.name, "created_at": row.created_at, "last_used_at": row.last_used_at}


def _descriptors(keys: Sequence[Row]) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            id=bytes(key.credential_id), transports=[AuthenticatorTransport(each) for each in key.transports]
        )
        for key in keys
    ]


def _handle(user_id: int) -> bytes:
    """The user's handle in WebAuthn."""
    return user_id.to_bytes(8, "big")


def _digest(challenge: bytes) -> str:
    return hashlib.sha256(challenge).hexdigest()
