"""Reads the forms of pages, and asks again who the user is before a sensitive act."""

from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import MultiDict

from registry.accounts.requests import MAX_ID_DIGITS, principal_of
from registry.accounts.sessions import manage as sessions
from registry.errors import ConfirmationRequired, InvalidInput, RegistryError, UnsupportedMediaType
from registry.factors import proof
from registry.keys import DB, SETTINGS
from registry.pages import csrf
from registry.web.context import CONTEXT
from registry.web.parsing import NO_NUL, read_raw

URLENCODED = "application/x-www-form-urlencoded"
MAX_FIELDS = 200
PASSWORD, CODE = "confirm_password", "confirm_code"
_HOW_TO_CONFIRM = "You signed in a while ago. Confirm that it is you with your password."


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form. For a form that was refused, `errors` has a sentence for each wrong field, and `problem`
    says what else was wrong.
    """

    fields: MultiDict[str] = field(default_factory=MultiDict)
    errors: dict[str, str] = field(default_factory=dict)
    problem: str = ""

    def __getitem__(self, name: str) -> str:
        """The value of a field; "" without one."""
        return self.fields.get(name, "")

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def list(self, name: str) -> list[str]:
        """All values of a field, such as of checkboxes."""
        return self.fields.getall(name, [])

    def number(self, name: str) -> int:
        """The id in a hidden field; 0, which no row has, for anything else."""
        text = self[name]
        return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_ID_DIGITS else 0

    def refused(self, error: RegistryError, **names: str) -> "Form":
        """The form with what `error` says of its fields, to show it again.

        `names` maps the API's names of fields to those of the form, where they differ.
        """
        errors = {names.get(each["field"], each["field"]): _sentence(each["message"]) for each in error.errors}
        unknown = [f"{key}: {text}" for key, text in errors.items() if key not in self.fields]
        problem = " ".join(unknown) if errors else error.detail
        return replace(self, errors=errors, problem=problem)


class NotConfirmed(ConfirmationRequired):
    """The user must confirm a sensitive act. `form` is the form of the act, which the answer carries on."""

    def __init__(self, form: Form, detail: str, *, has_factor: bool, is_wrong: bool) -> None:
        super().__init__(detail)
        self.form = form
        self.has_factor = has_factor
        self.is_wrong = is_wrong


async def read_form(request: web.Request, *, from_mail: bool = False) -> Form:
    """The form in the body of `request`.

    A form `from_mail` has a secret of its own, the token of the link. Programs that open links of mails may drop
    cookies, so a form without our cookie is accepted there.
    Raises Forbidden for a form that another site sent, UnsupportedMediaType, TooLarge, InvalidInput.
    """
    csrf.check_origin(request)
    if request.content_type != URLENCODED:
        raise UnsupportedMediaType(f"Send the form as {URLENCODED}.")
    raw = await read_raw(request)
    try:
        pairs = parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise InvalidInput(f"The form has more than {MAX_FIELDS} fields.") from None
    # Browsers send line ends as CR LF.
    fields = MultiDict((name, value.replace("\r\n", "\n")) for name, value in pairs)
    token = fields.popone(csrf.FIELD, "")
    if not from_mail or csrf.has_cookie(request):
        csrf.check(request, token)
    if nul := [name for name, value in fields.items() if "\0" in value]:
        raise InvalidInput.of([{"field": name, "message": NO_NUL} for name in dict.fromkeys(nul)])
    return Form(fields)


async def require_fresh(request: web.Request, form: Form) -> None:
    """Returns if the user confirmed this session within REGISTRY_REAUTH, or if `form` has a right password or code.

    Read the principal after this call: it has `is_confirmed`.
    Raises NotConfirmed, which is answered with a page that asks for one and sends the form again; TooManyFailures.
    """
    principal, settings = principal_of(request), request.app[SETTINGS].accounts
    if not sessions.is_fresh(settings, principal):
        db = request.app[DB]
        given = proof.Proof(form[PASSWORD] or None, form[CODE] or None)
        try:
            await proof.confirm(db, settings, principal, given, request[CONTEXT].client)
        except ConfirmationRequired as error:
            is_wrong = given.password is not None or given.code is not None
            has_factor = await proof.has_code(db, principal.user_id)
            detail = error.detail if is_wrong else _HOW_TO_CONFIRM
            raise NotConfirmed(form, detail, has_factor=has_factor, is_wrong=is_wrong) from None
        await sessions.confirm(db, principal)
    request[CONTEXT].principal = replace(principal, is_confirmed=True)


def _sentence(message: str) -> str:
    return message[:1].upper() + message[1:] + ("" if message.endswith((".", "!", "?")) else ".")
