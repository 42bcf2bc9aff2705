"""Addresses: the registry's, origins, and where plain http is allowed."""

import ipaddress
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from registry.client.failures import WrongUsage

DEFAULT = "http://127.0.0.1:8080"
API = "/api/v1"
_PORTS = {"http": 80, "https": 443}


def normalise(text: str) -> str:
    """The registry's address without `/api/v1`, a slash at the end, or the usual port. Raises WrongUsage."""
    parts = _split(text)
    if parts.username is not None or parts.query or parts.fragment:
        raise WrongUsage("The registry's address may not have a user name, a query or a fragment.")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    path = parts.path.rstrip("/").removesuffix(API).rstrip("/")
    return urlunsplit((parts.scheme, f"{host}{port}", path, "", ""))


def origin(address: str) -> tuple[str, str, int]:
    """(scheme, host, port). Only requests to the same origin get the user's token. Raises WrongUsage."""
    parts = _split(address)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


def is_local(address: str) -> bool:
    """Whether the address is on this computer."""
    host = _split(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def as_localhost(address: str) -> str:
    """The address with `localhost` as its host, if that is an IP address of this computer; else ""."""
    parts = _split(address)
    if not is_local(address) or (parts.hostname or "").endswith("localhost"):
        return ""
    return normalise(parts._replace(netloc=f"localhost:{parts.port or _PORTS[parts.scheme]}").geturl())


def require_https(address: str, *, allow_http: bool) -> None:
    """Raises WrongUsage for plain http to another computer, unless `allow_http`."""
    if _split(address).scheme == "http" and not allow_http and not is_local(address):
        raise WrongUsage(
            f"{address} is not encrypted, so others could read your token. Use https, or add --allow-http "
            "if you trust the network."
        )


def api_path(*segments: str) -> str:
    """The path of a route below /api/v1. Each segment is escaped."""
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        is_valid = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is no number
        is_valid = False
    if not is_valid or not address.isprintable() or " " in address:
        raise WrongUsage(f"{address!r} is not an address. Write it like https://registry.example.com.")
    return parts
