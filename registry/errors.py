"""Every failure the registry names, with the status and the code a client sees.

RegistryError
├── InvalidInput 400            invalid_input          a field, parameter or body is not as documented
│   ├── InvalidArchive          invalid_archive        the tarball can't be accepted
│   ├── InvalidManifest         invalid_manifest       synapse.json is missing or wrong
│   └── ChecksumMismatch        checksum_mismatch      the bytes are not the ones announced
├── Unauthorized 401            unauthorized           no credentials, or none that hold
├── Forbidden 403               forbidden              known, but not allowed
│   └── NameReserved            name_reserved
├── NotFound 404                not_found
├── MethodNotAllowed 405        method_not_allowed
├── RequestTimeout 408          request_timeout        the body came too slowly
├── Conflict 409                conflict
│   ├── VersionExists           version_exists
│   ├── VersionBurned           version_burned         deleted once; its number is spent
│   ├── NameTooSimilar          name_too_similar
│   ├── UserExists              user_exists
│   └── IdempotencyKeyReused    idempotency_key_reused
├── PreconditionFailed 412      precondition_failed    If-Match or If-Unmodified-Since doesn't hold
├── TooLarge 413                too_large
├── UnsupportedMediaType 415    unsupported_media_type
├── RangeNotSatisfiable 416     range_not_satisfiable
├── TooManyRequests 429         rate_limited           (+ Retry-After)
│   └── TooManyFailures         too_many_failures      wrong passwords: the next attempt has to wait
├── Internal 500                internal_error         ours to mend
└── Unavailable 503             unavailable            a needed server is away (+ Retry-After)
    ├── DatabaseUnavailable     database_unavailable
    ├── StorageUnavailable      storage_unavailable
    └── SearchUnavailable       search_unavailable

SettingsError and StackError end a command, not a request: each is a plain sentence for the terminal.
"""

from collections.abc import Mapping, Sequence

from typing_extensions import TypedDict


class FieldError(TypedDict):
    """One wrong field: its dotted path and what is wrong with it."""

    field: str
    message: str


class RegistryError(Exception):
    """A failure with a status, a stable code, a text for people and, for bad fields, one entry each."""

    status = 500
    code = "internal_error"
    title = "Internal error"

    def __init__(
        self, detail: str, *, errors: Sequence[FieldError] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})


class InvalidInput(RegistryError):
    status, code, title = 400, "invalid_input", "Invalid input"

    @classmethod
    def of(cls, errors: Sequence[FieldError]) -> "InvalidInput":
        """All wrong fields in one answer; `errors` is not empty."""
        return cls("; ".join(f"{e['field']}: {e['message']}" for e in errors), errors=errors)

    @classmethod
    def field(cls, field: str, message: str) -> "InvalidInput":
        return cls.of([{"field": field, "message": message}])


class InvalidArchive(InvalidInput):
    code, title = "invalid_archive", "Invalid tarball"


class InvalidManifest(InvalidInput):
    code, title = "invalid_manifest", "Invalid manifest"


class ChecksumMismatch(InvalidInput):
    code, title = "checksum_mismatch", "Checksum mismatch"


class Unauthorized(RegistryError):
    status, code, title = 401, "unauthorized", "Unauthorized"


class Forbidden(RegistryError):
    status, code, title = 403, "forbidden", "Forbidden"


class NameReserved(Forbidden):
    code, title = "name_reserved", "Name reserved"


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


class Internal(RegistryError):
    """Something went wrong on our side; the request id finds it in the log."""


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


class SettingsError(Exception):
    """The environment can't be served from; the text names each variable and what it wants."""


class StackError(Exception):
    """A part of the embedded stack is missing or won't start; the text says what to install or change."""
