"""All named failures of the registry, each with the status and the code that clients see.

RegistryError
├── InvalidInput 400            invalid_input          a field, parameter or body is wrong
│   ├── InvalidArchive          invalid_archive        the tarball can't be accepted
│   ├── InvalidManifest         invalid_manifest       synapse.json is missing or wrong
│   ├── InvalidLink             invalid_link           the token of a mail is wrong, used or expired
│   └── ChecksumMismatch        checksum_mismatch      the bytes don't have the declared checksum
├── Unauthorized 401            unauthorized           credentials are missing or not valid
│   ├── OidcRefused             oidc_refused           the ID token of a CI job is not accepted (+ reason)
│   ├── SecondFactorRequired    second_factor_required the password is right; a second factor is needed, too
│   └── WrongCode               wrong_code             a code of an authenticator app, or a recovery code, is wrong
├── Forbidden 403               forbidden              the user is known but not allowed
│   ├── NameReserved            name_reserved
│   ├── NameClosed              name_closed            the package has neither owners nor versions
│   ├── Quarantined             quarantined            an admin has put the package in quarantine
│   ├── ConfirmationRequired    confirmation_required  the password or a code is needed once more
│   ├── SecondFactorNeeded      second_factor_needed   this registry requires a second factor; add one
│   ├── ReadOnly                read_only              REGISTRY_READ_ONLY is set
│   └── EmailNotVerified        email_not_verified     the account has not verified its address
├── NotFound 404                not_found
├── MethodNotAllowed 405        method_not_allowed
├── RequestTimeout 408          request_timeout        the body came too slowly
├── Conflict 409                conflict
│   ├── VersionExists           version_exists
│   ├── VersionBurned           version_burned         the version was deleted; its number is never reused
│   ├── NameTooSimilar          name_too_similar
│   ├── UserExists              user_exists
│   ├── AlreadyOwner            already_owner          the user has this role already
│   ├── LastOwner               last_owner             a package must keep an owner
│   └── IdempotencyKeyReused    idempotency_key_reused
├── PreconditionFailed 412      precondition_failed    If-Match or If-Unmodified-Since is not met
├── TooLarge 413                too_large
├── UnsupportedMediaType 415    unsupported_media_type
├── RangeNotSatisfiable 416     range_not_satisfiable
├── TooManyRequests 429         rate_limited           (+ Retry-After)
│   └── TooManyFailures         too_many_failures      too many wrong passwords; wait before the next attempt
├── NotReached 504              not_reached            a state was not reached in the time that the client waits
├── Internal 500                internal_error         a fault in the registry
├── NotConfigured 501           not_configured         the operator has not set what this needs
│   ├── MailNotConfigured       mail_not_configured    the registry sends no mail
│   └── PasskeysNotConfigured   passkeys_not_configured
└── Unavailable 503             unavailable            a server that is needed is unavailable (+ Retry-After)
    ├── DatabaseUnavailable     database_unavailable
    ├── StorageUnavailable      storage_unavailable
    ├── SearchUnavailable       search_unavailable
    ├── IssuerUnavailable       issuer_unavailable     the keys of an issuer of ID tokens can't be fetched
    ├── MailUnavailable         mail_unavailable
    └── SecretUnreadable        secret_unreadable      no key of REGISTRY_SECRET_KEY decrypts a stored secret

SettingsError and StackError end a command, not a request. Their texts are printed on the terminal.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import TypedDict


class FieldError(TypedDict):
    """One wrong field: its dotted path, and a message that follows the path in a sentence."""

    field: str
    message: str


class RegistryError(Exception):
    """A failure with a status, a stable code, a text for people, and an entry for each wrong field.

    `members` are further members of the answer's body.
    """

    status = 500
    code = "internal_error"
    title = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.members = dict(members or {})


class InvalidInput(RegistryError):
    status, code, title = 400, "invalid_input", "Invalid input"

    @classmethod
    def of(cls, errors: Sequence[FieldError]) -> "InvalidInput":
        """An error for all wrong fields together. `errors` is not empty."""
        return cls("; ".join(f"{e['field']}: {e['message']}" for e in errors), errors=errors)

    @classmethod
    def field(cls, field: str, message: str) -> "InvalidInput":
        return cls.of([{"field": field, "message": message}])


class InvalidArchive(InvalidInput):
    code, title = "invalid_archive", "Invalid tarball"


class InvalidManifest(InvalidInput):
    code, title = "invalid_manifest", "Invalid manifest"


class InvalidLink(InvalidInput):
    code, title = "invalid_link", "Link not valid"


class ChecksumMismatch(InvalidInput):
    code, title = "checksum_mismatch", "Checksum mismatch"


class Unauthorized(RegistryError):
    status, code, title = 401, "unauthorized", "Unauthorized"


class OidcRefused(Unauthorized):
    code, title = "oidc_refused", "ID token refused"


class SecondFactorRequired(Unauthorized):
    code, title = "second_factor_required", "Second factor required"


class WrongCode(Unauthorized):
    code, title = "wrong_code", "Wrong code"


class Forbidden(RegistryError):
    status, code, title = 403, "forbidden", "Forbidden"


class ConfirmationRequired(Forbidden):
    code, title = "confirmation_required", "Confirmation required"


class SecondFactorNeeded(Forbidden):
    code, title = "second_factor_needed", "Second factor needed"


class ReadOnly(Forbidden):
    code, title = "read_only", "Read-only"


class NameReserved(Forbidden):
    code, title = "name_reserved", "Name reserved"


class NameClosed(Forbidden):
    code, title = "name_closed", "Name closed"


class Quarantined(Forbidden):
    code, title = "quarantined", "In quarantine"


class EmailNotVerified(Forbidden):
    code, title = "email_not_verified", "E-mail address not verified"


class NotFound(RegistryError):
    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(RegistryError):
    status, code, title = 405, "method_not_allowed", "Method not allowed"


class RequestTimeout(RegistryError):
    status, code, title = 408, "request_timeout", "Request timeout"


class Conflict(RegistryError):
    status, code, title = 409, "conflict", "Conflict"


class VersionExists(Conflict):
    code, title = "version_exists", "Version exists"


class VersionBurned(Conflict):
    code, title = "version_burned", "Version was deleted"


class NameTooSimilar(Conflict):
    code, title = "name_too_similar", "Name too similar"


class UserExists(Conflict):
    code, title = "user_exists", "User exists"


class AlreadyOwner(Conflict):
    code, title = "already_owner", "Already an owner"


class LastOwner(Conflict):
    code, title = "last_owner", "Last owner"


class IdempotencyKeyReused(Conflict):
    code, title = "idempotency_key_reused", "Idempotency key reused"


class PreconditionFailed(RegistryError):
    status, code, title = 412, "precondition_failed", "Precondition failed"


class TooLarge(RegistryError):
    status, code, title = 413, "too_large", "Too large"


class UnsupportedMediaType(RegistryError):
    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class RangeNotSatisfiable(RegistryError):
    status, code, title = 416, "range_not_satisfiable", "Range not satisfiable"


class TooManyRequests(RegistryError):
    status, code, title = 429, "rate_limited", "Too many requests"


class TooManyFailures(TooManyRequests):
    code, title = "too_many_failures", "Too many wrong passwords"


class NotReached(RegistryError):
    status, code, title = 504, "not_reached", "Not reached in time"


class Internal(RegistryError):
    """A fault in the registry. The log has the details under the request id."""


class NotConfigured(RegistryError):
    status, code, title = 501, "not_configured", "Not configured"


class MailNotConfigured(NotConfigured):
    code, title = "mail_not_configured", "Mail not configured"


class PasskeysNotConfigured(NotConfigured):
    code, title = "passkeys_not_configured", "Passkeys not configured"


class Unavailable(RegistryError):
    status, code, title = 503, "unavailable", "Temporarily unavailable"

    def __init__(self, detail: str, *, retry_after: int = 5) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"


class SearchUnavailable(Unavailable):
    code = "search_unavailable"


class IssuerUnavailable(Unavailable):
    code = "issuer_unavailable"


class MailUnavailable(Unavailable):
    code = "mail_unavailable"


class SecretUnreadable(Unavailable):
    code = "secret_unreadable"


class SettingsError(Exception):
    """Settings are wrong. The text names each variable and what it wants."""


class StackError(Exception):
    """A server or port that a command needs is not available. The text says what to install or change."""
