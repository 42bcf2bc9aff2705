"""HTTP handlers of e-mail addresses and forgotten passwords. Without mail they answer 501."""

import asyncio

from aiohttp import web
from typing_extensions import TypedDict

from registry.accounts import bodies
from registry.accounts.requests import no_store, origin_of, principal_of
from registry.errors import ConfirmationRequired, Conflict, InvalidLink, MailNotConfigured, TooManyFailures, UserExists
from registry.factors.proof import confirm
from registry.keys import DB, SETTINGS
from registry.mail import addresses, reset
from registry.mail.bodies import MAIL, EmailChange, LinkToken, ResetConfirmation, ResetRequest
from registry.mail.configuration import require
from registry.web.context import CONTEXT
from registry.web.parsing import check, read_body, read_json
from registry.web.responses import json_response
from registry.web.route import OPEN, SIGNED_IN, Route, group


class EmailChanged(TypedDict):
    """`user` has the new address, which is not verified yet."""

    success: bool
    user: bodies.UserInfo
    email_verified: bool


async def verify_email(request: web.Request) -> web.StreamResponse:
    """Verifies an e-mail address by the token in the link of a mail."""
    require(request.app[SETTINGS])
    body = await read_body(request, LinkToken)
    await addresses.verify(request.app[DB], body.token, origin_of(request))
    return json_response({"success": True})


async def resend_verification(request: web.Request) -> web.StreamResponse:
    """Sends the mail that verifies your address again."""
    who = principal_of(request)
    who.require_login()
    require(request.app[SETTINGS])
    await addresses.resend(request.app[DB], who)
    return json_response({"success": True}, status=202)


async def change_email(request: web.Request) -> web.StreamResponse:
    """Changes your e-mail address. The old address is told, and the new one gets a mail to verify it."""
    settings, db, who = request.app[SETTINGS], request.app[DB], principal_of(request)
    who.require_login()
    require(settings)
    body = await asyncio.to_thread(check, EmailChange, await read_json(request))
    await confirm(db, settings.accounts, who, body.proof, request[CONTEXT].client)
    user = await addresses.change(db, who, body.email)
    answer = {
        "success": True,
        "user": bodies.user_info(user),
        "email_verified": user.email_verified_at is not None,
    }
    return no_store(answer)


async def request_password_reset(request: web.Request) -> web.StreamResponse:
    """Sends a link to set a new password. The answer is the same whether an account has this address or not."""
    require(request.app[SETTINGS])
    body = await read_body(request, ResetRequest)
    await reset.request(request.app[DB], body.email)
    return json_response({"success": True}, status=202)


async def reset_password(request: web.Request) -> web.StreamResponse:
    """Sets a new password by the token in the link of a mail, and ends all sessions and API tokens."""
    settings = request.app[SETTINGS]
    require(settings)
    body = await asyncio.to_thread(check, ResetConfirmation, await read_json(request))
    await reset.confirm(request.app[DB], settings.accounts, body.token, body.password, origin_of(request))
    return json_response({"success": True})


_TOKEN = "the-token-of-the-link"  # noqa: S105 - an example
AUTH = "/api/v1/auth"
ROUTES = group(
    "Mail",
    Route("POST", f"{AUTH}/email/verify", verify_email, "Verify an e-mail address by the token of a mail", OPEN, MAIL,
          body={"application/json": LinkToken}, answers={200: bodies.Done}, errors=(InvalidLink, MailNotConfigured),
          example={"token": _TOKEN}),
    Route("POST", f"{AUTH}/email/resend", resend_verification, "Send the mail that verifies your address again",
          SIGNED_IN, MAIL, answers={202: bodies.Done}, errors=(Conflict, MailNotConfigured)),
    Route("POST", f"{AUTH}/email", change_email, "Change your e-mail address", SIGNED_IN, MAIL,
          body={"application/json": EmailChange}, answers={200: EmailChanged},
          errors=(UserExists, ConfirmationRequired, TooManyFailures, MailNotConfigured),
          example={"email": "ada@example.com", "password": "correct horse battery"}),
    Route("POST", f"{AUTH}/password/reset", request_password_reset, "Ask for a mail to set a new password", OPEN, MAIL,
          body={"application/json": ResetRequest}, answers={202: bodies.Done}, errors=(MailNotConfigured,),
          example={"email": "ada@example.com"}),
    Route("POST", f"{AUTH}/password/reset/confirm", reset_password, "Set a new password by the token of a mail", OPEN,
          MAIL, body={"application/json": ResetConfirmation}, answers={200: bodies.Done},
          errors=(InvalidLink, MailNotConfigured),
          example={"token": _TOKEN, "password": "wrong donkey charger"}),
)  # fmt: skip
