"""HTTP handlers of accounts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from registry.accounts import api_tokens, authenticate, bodies, leaks, login, register, tokens
from registry.accounts.identity import Principal
from registry.accounts.requests import AUTHENTICATOR, NEEDS_CREDENTIALS, id_of, no_store, origin_of, principal_of
from registry.errors import Conflict, InvalidInput, TooManyFailures, Unauthorized, UserExists
from registry.events.audit import Actor
from registry.keys import DB, SETTINGS
from registry.web.context import CONTEXT
from registry.web.credentials import CREDENTIAL_CHECK
from registry.web.parsing import (
    check,
    parse_json,
    parse_object,
    read_body,
    read_json,
    read_raw_json,
    require_json,
)
from registry.web.responses import json_response
from registry.web.route import OPEN, OPTIONAL, READS, SIGNED_IN, Limit, Route, group

Found = TypeVar("Found")
WithPassword = TypeVar("WithPassword", bodies.Registration, bodies.PasswordChange)


async def register_user(request: web.Request) -> web.StreamResponse:
    """Creates a user. Where registration is closed, only an admin may do this."""
    settings = request.app[SETTINGS].accounts
    principal = request[CONTEXT].principal
    register.require_open(settings, principal if isinstance(principal, Principal) else None)
    body = await _read_with_password(request, bodies.Registration)
    actor = principal.actor if isinstance(principal, Principal) else Actor(origin=origin_of(request))
    user = await register.register(request.app[DB], settings, body.username, body.password, body.email, actor=actor)
    return json_response({"success": True, "user": bodies.user_info(user)}, status=201)


async def log_out(request: web.Request) -> web.StreamResponse:
    """Ends the session whose token the request carries. The token is not valid any more."""
    await login.logout(request.app[DB], principal_of(request))
    return json_response({"success": True})


async def verify_token(request: web.Request) -> web.StreamResponse:
    """Checks the token in the body, or without one the token in the header `Authorization`.

    An invalid token in the body is answered 200 with `"valid": false`, an invalid token in the header is answered 401.
    """
    raw = await request.read() if request.can_read_body else b""
    authenticator = request.app[AUTHENTICATOR]
    if raw.strip():
        require_json(request)
        data = parse_object(raw)
        if "token" in data:
            text = check(bodies.TokenText, data).token
            user = await _check(request, text, lambda: authenticator.verify(text))
            return no_store({"valid": False} if user is None else {"valid": True, "user": bodies.user_info(user)})
    token = authenticate.bearer_token(request.headers.get("Authorization"))
    if token is None:
        raise Unauthorized(NEEDS_CREDENTIALS)
    user = await _check(request, token, lambda: authenticator.find_user(token))
    return no_store({"valid": True, "user": bodies.user_info(user)})


async def verify_credentials(request: web.Request) -> web.StreamResponse:
    """Checks the token in the header `Authorization`. An invalid one is answered 401."""
    return await verify_token(request)


async def change_password(request: web.Request) -> web.StreamResponse:
    """Sets a new password and ends all sessions and API tokens. The answer has a new session."""
    body = await _read_with_password(request, bodies.PasswordChange)
    user, token, expires_at = await login.change_password(
        request.app[DB],
        request.app[SETTINGS].accounts,
        principal_of(request),
        body.current_password,
        body.new_password,
        request[CONTEXT].client,
    )
    return no_store(bodies.logged_in(user, token, expires_at))


async def create_token(request: web.Request) -> web.StreamResponse:
    """Creates an API token with scopes, and optionally with packages and an expiry. Only this answer has the token's
    text.
    """
    body = await read_body(request, bodies.TokenRequest)
    kept, text = await api_tokens.create_api_token(
        request.app[DB],
        principal_of(request),
        body.name,
        body.scopes,
        body.packages,
        body.expires_in_days,
        body.expires_at,
    )
    return no_store({"success": True, "token": text, **bodies.token_info(kept)}, status=201)


async def list_tokens(request: web.Request) -> web.StreamResponse:
    """Your API tokens, without their texts."""
    kept = await api_tokens.list_api_tokens(request.app[DB], principal_of(request))
    return no_store({"tokens": [bodies.token_info(token) for token in kept]})


async def delete_token(request: web.Request) -> web.StreamResponse:
    """Revokes one of your API tokens at once."""
    token = id_of(request, "You have no API token with this id.")
    await api_tokens.delete_api_token(request.app[DB], principal_of(request), token)
    return web.Response(status=204)


async def report_tokens(request: web.Request) -> web.StreamResponse:
    """Revokes API tokens that a scanner found in public. Takes one alert or a list of alerts.

    The answer has a label for each alert, in the same order: whether this registry issued the token.
    """
    data = parse_json(await read_raw_json(request))
    if isinstance(data, list):
        alerts = check(bodies.LeakedTokens, {"alerts": data}).alerts
    elif isinstance(data, dict):
        alerts = [check(bodies.LeakedToken, data)]
    else:
        raise InvalidInput("The body must be a JSON object, or a list of them.")
    return no_store([await _label(request, alert) for alert in alerts])


async def _label(request: web.Request, alert: bodies.LeakedToken) -> dict[str, str]:
    """Revokes the token of one alert. Returns the alert's part of the answer: was the token issued by this registry?"""
    db, settings, token = request.app[DB], request.app[SETTINGS].accounts, alert.token.strip()

    async def revoke() -> bool:
        return await leaks.revoke_leaked(db, settings, token, alert.url or "", alert.source or "", origin_of(request))

    return {
        "token_hash": tokens.hash_api_token(alert.token),
        "token_type": alert.type or bodies.TOKEN_TYPE,
        "label": "true_positive" if await _check(request, token, revoke) else "false_positive",
    }


async def _read_with_password(request: web.Request, model: type[WithPassword]) -> WithPassword:
    # Checking a password reads files and may normalize a long text.
    return await asyncio.to_thread(check, model, await read_json(request))


async def _check(request: web.Request, token: str, look_up: Callable[[], Awaitable[Found]]) -> Found:
    """The result of `look_up`. Raises TooManyRequests if too many wrong tokens came from the client's address."""
    settings = request.app[SETTINGS].accounts
    return await request.app[CREDENTIAL_CHECK].check(
        request, token, look_up, lambda text: authenticate.is_signed(settings, text)
    )


REPORTS = Limit("report", "100/hour")

AUTH = "/api/v1/auth"
ROUTES = group(
    "Accounts",
    Route("POST", f"{AUTH}/register", register_user, "Create a user", OPTIONAL, bodies.REGISTER,
          body={"application/json": bodies.Registration}, answers={201: bodies.Registered}, errors=(UserExists,),
          example={"username": "ada", "password": "correct horse battery", "email": "ada@example.com"}),
    Route("POST", f"{AUTH}/logout", log_out, "Sign out: revoke the token of the request", SIGNED_IN,
          answers={200: bodies.Done}, needs_factor=False, works_read_only=True),
    Route("POST", f"{AUTH}/verify", verify_token, "Check the token of the body or the header", OPEN, READS,
          body={"application/json": bodies.TOKEN_SCHEMA, "x-required": False}, answers={200: bodies.Verified},
          errors=(401,), example={"token": "syn_a1b2c3"}, works_read_only=True),
    Route("GET", f"{AUTH}/verify", verify_credentials, "Check the token of the header", OPEN, READS,
          answers={200: bodies.Verified}, errors=(401,)),
    Route("POST", f"{AUTH}/password", change_password, "Change the password and end all other tokens", SIGNED_IN,
          bodies.LOGIN, body={"application/json": bodies.PasswordChange}, answers={200: bodies.LoggedIn},
          errors=(Conflict, TooManyFailures),
          example={"current_password": "correct horse battery", "new_password": "wrong donkey charger"}),
    Route("POST", f"{AUTH}/tokens", create_token, "Create an API token", SIGNED_IN,
          body={"application/json": bodies.TokenRequest}, answers={201: bodies.TokenCreated}, errors=(Conflict,),
          publishes=True, example={"name": "ci", "scopes": ["publish"], "packages": ["hello-world"]}),
    Route("GET", f"{AUTH}/tokens", list_tokens, "List your API tokens", SIGNED_IN, READS,
          answers={200: bodies.TokenList}),
    Route("POST", f"{AUTH}/tokens/report", report_tokens, "Revoke tokens that were found in public", OPEN, REPORTS,
          body={"application/json": bodies.LeakReport}, answers={200: list[bodies.LeakLabel]},
          example=[{"token": "syn_a1b2c3", "type": "synapse_registry_token", "url": "https://example.com/leak"}]),
    Route("DELETE", f"{AUTH}/tokens/{{id}}", delete_token, "Delete an API token", SIGNED_IN,
          answers={204: None}),
)  # fmt: skip
