"""Trusted publishing: a CI job proves what it is by an identity token, and gets a short-lived token of the registry."""

import json
from urllib.parse import quote

from urllib3 import BaseHTTPResponse

from registry.client import address, environment
from registry.client.api import Api
from registry.client.failures import ClientError, NotAllowed, TryLater
from registry.client.transport import Request, Transport, read_bounded

MAX_IDENTITY = 64 << 10


def has_identity() -> bool:
    """Whether this is a CI job that can prove what it is."""
    return bool(environment.gitlab_identity() or environment.github_identity_source())


def exchange(api: Api, package: str) -> str:
    """A token of the registry that may publish `package` for 15 minutes. Raises NotAllowed with the reason."""
    identity, source = environment.gitlab_identity(), environment.github_identity_source()
    if identity or source is None:
        return _exchange(api, package, identity)
    audience = environment.audience()
    try:
        return _exchange(api, package, _github_identity(api.transport, source, audience or api.url))
    except NotAllowed as refused:
        # A registry on this computer calls itself localhost, unless it is told otherwise.
        other = "" if audience else address.as_localhost(api.url)
        if refused.body.get("reason") != "audience" or not other:
            raise
    return _exchange(api, package, _github_identity(api.transport, source, other))


def _exchange(api: Api, package: str, identity: str) -> str:
    try:
        answer = api.call("POST", "/auth/oidc/token", {"token": identity, "package": package})
    except NotAllowed as refused:
        raise NotAllowed(
            _explanation(refused), code=refused.code, status=refused.status, body=refused.body
        ) from refused
    return str(answer["token"])


def _github_identity(transport: Transport, source: tuple[str, str], audience: str) -> str:
    url, bearer = source
    separator = "&" if "?" in url else "?"
    request = Request(
        "GET",
        f"{url}{separator}audience={quote(audience, safe='')}",
        {"Authorization": f"Bearer {bearer}", "Accept": "application/json"},
    )

    def read(response: BaseHTTPResponse) -> str:
        data = read_bounded(response, MAX_IDENTITY)
        if response.status >= 500:
            raise TryLater(f"GitHub's identity service answered with status {response.status}.")
        try:
            return str(json.loads(data)["value"])
        except (ValueError, KeyError, TypeError) as error:
            raise ClientError(
                f"GitHub gave this job no identity token (status {response.status}). The job needs "
                "`permissions: id-token: write`."
            ) from error

    return transport.retry(lambda: transport.send(request, read))


def _explanation(refused: NotAllowed) -> str:
    text = str(refused)
    if refused.body.get("reason") == "audience":
        text += (
            f" Use it as --url or, in GitHub Actions, as {environment.AUDIENCE}. In other CI, it is the audience of "
            f"{environment.GITLAB_TOKEN}."
        )
    claims = refused.body.get("claims")
    if isinstance(claims, dict) and claims:
        text += " This job is: " + ", ".join(f"{name}={value}" for name, value in claims.items()) + "."
    return text
