"""What every command of the client gets: its options, its output, and the registry that it is about."""

import argparse
import platform
import re
from functools import cached_property
from typing import Any

from registry import __version__
from registry.client import environment
from registry.client.address import DEFAULT, normalise, require_https
from registry.client.api import Api
from registry.client.credentials import Credentials, default_folder
from registry.client.failures import NotAllowed, WrongUsage
from registry.client.output import Output
from registry.client.transport import Transport


class Client:
    """The state of one command. Everything is made when it is needed."""

    def __init__(self, options: argparse.Namespace, out: Output) -> None:
        self._options = options
        self.out = out

    @cached_property
    def credentials(self) -> Credentials:
        return Credentials(default_folder())

    @cached_property
    def url(self) -> str:
        """The registry's address: --url, else the variable, else the only login, else this computer."""
        given = self._options.url or environment.registry_url() or self._only_login()
        url = normalise(given)
        require_https(url, allow_http=self._options.allow_http)
        return url

    @cached_property
    def transport(self) -> Transport:
        return Transport(user_agent(), allow_http=self._options.allow_http, note=self.out.note)

    @cached_property
    def api(self) -> Api:
        """The registry's API, with the user's token if there is one."""
        return self.api_with(self.token)

    def api_with(self, token: str) -> Api:
        return Api(self.transport, self.url, token)

    @cached_property
    def token(self) -> str:
        """The token of the environment or of the login; "" without one."""
        if token := environment.token():
            if not re.fullmatch("[!-~]+", token):
                raise WrongUsage(f"{environment.TOKEN} has blanks or characters that no token has.")
            return token
        login = self.credentials.read(self.url)
        return login.token if login else ""

    def read(self, path: str, **query: object) -> Any:
        """The JSON of a route that needs no token in a public registry.

        A registry refuses the token of a login that has ended, also where none is needed. The client then goes on
        without a token. Only the registry knows whether a login has ended, because this computer's clock may be wrong.
        """
        try:
            return self.api.get(path, **query)
        except NotAllowed as refused:
            if refused.status != 401 or environment.token() or not self.token:
                raise
            without_token = self.api_with("")
            try:
                found = without_token.get(path, **query)
            except NotAllowed:
                raise refused from None
        self.out.note(f"Your login at {self.url} has ended. To use it, sign in with `synapse-registry login`.")
        self.api = without_token
        return found

    def require_token(self) -> None:
        """Raises NotAllowed if the user has no token."""
        if not self.token:
            raise NotAllowed(
                f"You are not signed in to {self.url}. Run `synapse-registry login`, or set {environment.TOKEN}.",
                code="not_signed_in",
            )

    def _only_login(self) -> str:
        urls = self.credentials.urls()
        if len(urls) > 1:
            raise WrongUsage(f"You are signed in to {', '.join(urls)}. Say which one by --url or by {environment.URL}.")
        return urls[0] if urls else DEFAULT


def user_agent() -> str:
    """Names the client, the system and whether a build runs it. Registries count downloads by this."""
    parts = [f"{platform.system()} {platform.release()}".strip() or "unknown", platform.machine() or "unknown"]
    if environment.is_ci():
        parts.append("ci")
    return f"synapse-cli/{__version__} ({'; '.join(parts)})".encode("ascii", "replace").decode()
