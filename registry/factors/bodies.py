"""The request and response bodies of second factors, as types that validate and document them."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from registry.accounts.bodies import CurrentPassword, UserInfo, user_info
from registry.accounts.identity import User
from registry.accounts.register import MAX_EMAIL
from registry.factors.account import Factors
from registry.factors.codes import MAX_CODE
from registry.factors.passkeys import MAX_NAME, Passkey
from registry.factors.proof import Proof
from registry.web.parsing import Body

MAX_CHALLENGE = 200
DEFAULT_NAME = "Passkey"


class UserWithFactors(UserInfo):
    email_verified: bool
    factors: Factors


class Me(TypedDict):
    """The signed-in user. `email_verified` and `factors` are those of `user`."""

    success: bool
    user: UserWithFactors
    email_verified: bool
    factors: Factors


class RecoveryCodes(TypedDict):
    """Each code replaces a second factor once. No other response contains them."""

    recovery_codes: list[str]


class PasskeyAdded(Passkey, total=False):
    """`recovery_codes` is present if the user had none."""

    recovery_codes: list[str]


class PasskeysPage(TypedDict):
    passkeys: list[Passkey]
    next_cursor: str | None
    limit: int


class Session(TypedDict):
    """A login. `ip` is null if it is unknown. `current` is true for the session of the request."""

    id: int
    created_at: datetime
    last_used_at: datetime
    ip: str | None
    user_agent: str
    current: bool


class SessionsPage(TypedDict):
    sessions: list[Session]
    next_cursor: str | None
    limit: int


def _check_name(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError(f"must have 1 to {MAX_NAME} printable characters")
    return name.strip()


Code = Annotated[str, Field(max_length=MAX_CODE)]
Credential = Annotated[
    dict[str, Any], Field(json_schema_extra={"description": "WebAuthn's toJSON() of the credential"})
]


class Confirmation(Body):
    """Either is enough: the password, or a code of an authenticator app or a recovery code."""

    password: CurrentPassword | None = None
    code: Code | None = None

    @property
    def proof(self) -> Proof:
        return Proof(self.password, self.code)


class CodeGiven(Body):
    """A code of an authenticator app."""

    code: Code


class CodeConfirmation(Body):
    """A code of an authenticator app, or a recovery code."""

    code: Code | None = None


class SecondFactor(Body):
    """The second step of a login: the challenge of the first, with a code or with a passkey."""

    challenge: Annotated[str, Field(max_length=MAX_CHALLENGE)]
    code: Code | None = None
    passkey: Credential | None = None


class LoginRequest(Body):
    """Describes the two kinds of bodies of a login.

    The first step has `username`, which may be the e-mail address, and `password`. The second step has the `challenge`
    of the first with a `code` or a `passkey`.
    """

    username: Annotated[str, Field(max_length=MAX_EMAIL)] | None = None
    password: CurrentPassword | None = None
    challenge: Annotated[str, Field(max_length=MAX_CHALLENGE)] | None = None
    code: Code | None = None
    passkey: Credential | None = None


class Challenge(Body):
    """The challenge of a login whose password was right. Without it, a passkey signs in alone."""

    challenge: Annotated[str, Field(max_length=MAX_CHALLENGE)] | None = None


class PasskeyName(Body):
    """The `name` that a registration may have besides the members of WebAuthn's toJSON()."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(_check_name)] = DEFAULT_NAME


CREATION_OPTIONS = {
    "title": "PasskeyCreationOptions",
    "type": "object",
    "description": "PublicKeyCredentialCreationOptionsJSON of WebAuthn",
}
REQUEST_OPTIONS = {
    "title": "PasskeyRequestOptions",
    "type": "object",
    "description": "PublicKeyCredentialRequestOptionsJSON of WebAuthn",
}
REGISTRATION = {
    "title": "PasskeyRegistration",
    "type": "object",
    "description": "RegistrationResponseJSON of WebAuthn, with a name for the passkey",
    "properties": {"id": {"type": "string"}, "name": {"type": "string", "maxLength": MAX_NAME}},
    "required": ["id"],
    "additionalProperties": True,
}
AUTHENTICATION = {
    "title": "PasskeyAuthentication",
    "type": "object",
    "description": "AuthenticationResponseJSON of WebAuthn",
    "properties": {"id": {"type": "string"}},
    "required": ["id"],
    "additionalProperties": True,
}
_CREDENTIAL = {"id": "cGFzc2tleQ", "rawId": "cGFzc2tleQ", "type": "public-key", "clientExtensionResults": {}}
REGISTRATION_EXAMPLE = {
    **_CREDENTIAL,
    "name": "Laptop",
    "response": {"clientDataJSON": "eyJ0eXBlIjoi…", "attestationObject": "o2NmbXRk…"},
}
AUTHENTICATION_EXAMPLE = {
    **_CREDENTIAL,
    "response": {"clientDataJSON": "eyJ0eXBlIjoi…", "authenticatorData": "SZYN5YgO…", "signature": "MEUCIQ…"},
}


def me(user: User, factors: Factors) -> Me:
    verified = user.email_verified_at is not None
    shown: UserWithFactors = {**user_info(user), "email_verified": verified, "factors": factors}
    return {"success": True, "user": shown, "email_verified": verified, "factors": factors}
