"""login, logout and whoami."""

import argparse
import contextlib
import getpass
import sys
from collections.abc import Iterator
from typing import Any

from registry.client import environment
from registry.client.api import LOGIN
from registry.client.client import Client
from registry.client.credentials import Login
from registry.client.failures import ClientError, NotAllowed, WrongUsage

# The registry ends a challenge after this many wrong codes.
CODE_ATTEMPTS = 5
MAX_LINE = 10_000


def login(client: Client, options: argparse.Namespace) -> None:
    ask = sys.stdin.isatty() and not options.password_stdin
    if not ask and not (options.username and options.password_stdin):
        raise WrongUsage("Without questions on a terminal, login needs both --username NAME and --password-stdin.")
    username = options.username or _ask("User name or e-mail address: ")
    answer = _sign_in(client, username, _password(ask=ask), options.code, ask=ask)
    known = answer["user"]["username"]
    in_keyring = _keep(client, Login(client.url, known, answer["token"]))
    if answer.get("password_breached"):
        client.out.note("Your password is known from a breach at another service. Change it.")
    if environment.token():
        client.out.note(f"{environment.TOKEN} is set, so commands use its token instead of this login.")
    where = "the system's keyring" if in_keyring else "a file that only you can read"
    data = {"url": client.url, "user": answer["user"], "expires_at": answer.get("expires_at"), "keyring": in_keyring}
    client.out.result(data, f"Signed in to {client.url} as {known}. The token is in {where}.")


def _keep(client: Client, login: Login) -> bool:
    """Keeps a login, or ends it again where nothing can be kept. Returns whether the keyring has its token."""
    try:
        return client.credentials.write(login)
    except (OSError, ClientError) as error:
        with contextlib.suppress(ClientError):  # the token is lost here, and ends by itself
            client.api_with(login.token).call("POST", "/auth/logout")
        reason = f"{error.filename}: {error.strerror}." if isinstance(error, OSError) else str(error)
        raise ClientError(
            f"The login can't be kept, so it is ended. {reason} Without a place for logins, set {environment.TOKEN}."
        ) from error


def _sign_in(client: Client, username: str, password: str, code: str | None, *, ask: bool) -> Any:
    """The registry's answer to a login. The code of a second factor is `code`; without one, the user is asked.

    Raises NotAllowed for wrong credentials and wrong codes, and when a code is needed and there is none.
    """
    try:
        return client.api_with("").call("POST", LOGIN, {"username": username, "password": password})
    except NotAllowed as refused:
        if refused.code != "second_factor_required":
            raise
        challenge, methods = refused.body.get("challenge"), refused.body.get("methods") or []
    if not {"totp", "recovery_code"}.intersection(methods):
        raise NotAllowed(
            "This account has only a passkey as its second factor, and a terminal can't use it. Add an authenticator "
            f"app to the account, or set {environment.TOKEN} to an API token.",
            code="second_factor_required",
        )
    if code is None and not ask:
        raise NotAllowed(
            "This account has a second factor. Pass the code of your authenticator app, or a recovery code, as --code.",
            code="second_factor_required",
        )
    return _second_factor(client, challenge, code, ask=ask)


def _second_factor(client: Client, challenge: object, code: str | None, *, ask: bool) -> Any:
    left = CODE_ATTEMPTS
    while True:
        given = code or _ask("Code of your authenticator app, or a recovery code: ")
        try:
            return client.api_with("").call("POST", LOGIN, {"challenge": challenge, "code": given.strip()})
        except NotAllowed as refused:
            left -= 1
            if refused.code != "wrong_code" or not ask or not left:
                raise
            client.out.note(str(refused))
        code = None


def logout(client: Client, _: argparse.Namespace) -> None:
    login = client.credentials.read(client.url)
    data = {"url": client.url, "signed_out": login is not None}
    if login is None:
        client.out.result(data, f"You are not signed in to {client.url}.")
        return
    try:
        client.api_with(login.token).call("POST", "/auth/logout")
    except NotAllowed:
        pass  # the token has ended already
    except ClientError:
        client.out.note("The token is deleted here, but the registry could not be told to end it.")
        raise
    finally:
        client.credentials.remove(client.url)
    client.out.result(data, f"Signed out of {client.url}.")


def whoami(client: Client, _: argparse.Namespace) -> None:
    client.require_token()
    user = client.api.get("/auth/me")["user"]
    role = " (admin)" if user.get("role") == "admin" else ""
    client.out.result({"url": client.url, "user": user}, f"{user['username']}{role} at {client.url}")


def _password(*, ask: bool) -> str:
    with _typing():
        password = getpass.getpass() if ask else sys.stdin.readline(MAX_LINE).rstrip("\r\n")
    if not password:
        raise WrongUsage("There is no password" + ("." if ask else " on standard input."))
    return password


def _ask(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    with _typing():
        answer = sys.stdin.readline(MAX_LINE)
    if not answer:  # Ctrl-D
        raise WrongUsage("There is no answer.")
    return answer.strip()


@contextlib.contextmanager
def _typing() -> Iterator[None]:
    """Names the ways in which reading from a user fails."""
    try:
        yield
    except EOFError:  # Ctrl-D
        raise WrongUsage("There is no answer.") from None
    except UnicodeDecodeError as error:
        raise WrongUsage(f"What was typed is no text in {error.encoding}.") from None
