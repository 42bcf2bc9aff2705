"""Parsers for settings that are addresses. Each raises ValueError with what the setting wants, never with the text."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from registry.setting_types import MAX_TEXT, flag, has_controls, integer, is_loopback, matching, text, words

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+")
_ENCODE = "with % @ : / ? # in a user name or password written as %25 %40 %3A %2F %3F %23"


def origins(value: str) -> tuple[str, ...]:
    """`*`, or origins as a browser sends them (RFC 6454): lower case, without a path and without a default port."""
    return tuple(word if word == "*" else _origin(word) for word in words(value))


def hosts(value: str) -> tuple[str, ...]:
    """Names of hosts, in lower case, without ports and wildcards."""
    names = tuple(word.lower() for word in words(value))
    if not all(_HOST.fullmatch(name) for name in names):
        raise ValueError("names of hosts such as images.example, without https:// and ports, with commas between")
    return names


def public_url(value: str) -> str:
    """The origin that users open, without a trailing slash. Empty text is none."""
    if not value:
        return ""
    wanted = "an address such as https://registry.example, without a path"
    try:
        origin = _origin(value.removesuffix("/"))
    except ValueError:
        raise ValueError(wanted) from None
    if not origin.startswith(("https://", "http://")):
        raise ValueError(wanted)
    return origin


def issuers(value: str) -> tuple[tuple[str, str], ...]:
    """(kind, address) of each issuer of ID tokens. The kind is oidc unless it is written before the address."""
    wanted = "issuers such as https://ci.example or gitlab=https://gitlab.example (http only at 127.0.0.1)"
    found = []
    for word in words(value):
        kind, equals, address = word.partition("=")
        kind, address = (kind, address) if equals else ("oidc", word)
        parts = _split(address, ("http", "https"), wanted)
        is_local = parts.scheme == "http" and is_loopback(parts.hostname or "")
        if kind not in ("github", "gitlab", "oidc") or not parts.hostname or parts.query or "@" in parts.netloc:
            raise ValueError(wanted)
        if parts.scheme == "http" and not is_local:
            raise ValueError(wanted)
        found.append((kind, address))
    return tuple(found)


def url(*schemes: str, example: str = "", login: bool = True, http_needs_port: bool = False) -> Callable[[str], str]:
    """An address with a host and at most a path; `example` shows one. Empty text is none.

    `login`: whether the address may have a user name and password.
    """
    wanted = f"an address such as {example or schemes[0] + '://host'}"
    wanted += f", {_ENCODE}" if login else ", without a user name or password"

    def parse(value: str) -> str:
        if not value.strip():
            return ""
        parts = _split(value.strip(), schemes, wanted)
        has_login = "@" in parts.netloc
        needs_port = http_needs_port and parts.scheme == "http" and parts.port is None
        if not parts.hostname or parts.query or needs_port or (has_login and not login):
            raise ValueError(wanted)
        return value.strip()

    return parse


def exactly(*allowed: str) -> Callable[[str], str]:
    """One of these texts, in this case."""
    return matching("|".join(map(re.escape, allowed)), " or ".join(allowed))


def ports(value: str) -> str:
    """One port for each host, with commas between."""
    for port in value.split(","):
        integer(1, 65535)(port)
    return value


_REDIS_PARAMETERS: Mapping[str, Callable[[str], object]] = {
    "ssl_ca_certs": text,
    "ssl_certfile": text,
    "ssl_keyfile": text,
    "ssl_cert_reqs": exactly("none", "optional", "required"),
    "ssl_check_hostname": flag,
}
# The parameters whose values libpq checks, but only when it connects.
_DATABASE_PARAMETERS: Mapping[str, Callable[[str], object]] = {
    "connect_timeout": integer(0, 2**31 - 1),
    "keepalives": integer(0, 2**31 - 1),
    "keepalives_count": integer(0, 2**31 - 1),
    "keepalives_idle": integer(0, 2**31 - 1),
    "keepalives_interval": integer(0, 2**31 - 1),
    "tcp_user_timeout": integer(0, 2**31 - 1),
    "port": ports,
    "sslmode": exactly("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslcertmode": exactly("disable", "allow", "require"),
    "sslnegotiation": exactly("postgres", "direct"),
    "ssl_min_protocol_version": exactly("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": exactly("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "channel_binding": exactly("disable", "prefer", "require"),
    "gssencmode": exactly("disable", "prefer", "require"),
    "target_session_attrs": exactly("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "load_balance_hosts": exactly("disable", "random"),
}


def redis_url(value: str) -> str:
    if not value.strip():
        return ""
    wanted = f"an address such as redis://:password@host:6379/0, {_ENCODE}"
    parts = _split(value.strip(), ("redis", "rediss"), wanted)
    given = _parameters(parts, _REDIS_PARAMETERS, wanted)
    if not parts.hostname or not re.fullmatch(r"(?:/[0-9]{0,4})?", parts.path) or not given <= {*_REDIS_PARAMETERS}:
        raise ValueError(wanted)
    if given and parts.scheme != "rediss":
        raise ValueError("rediss:// instead of redis://, since it has parameters of TLS")
    return value.strip()


def smtp_url(value: str) -> str:
    if not value.strip():
        return ""
    wanted = f"an address such as smtp://user:password@mail.example:587, {_ENCODE}"
    parts = _split(value.strip(), ("smtp", "smtps"), wanted)
    given = _parameters(parts, {"starttls": exactly("auto", "required", "off")}, wanted)
    if not parts.hostname or parts.path not in ("", "/") or not given <= {"starttls"}:
        raise ValueError(wanted)
    if bool(parts.username) != bool(parts.password):
        raise ValueError("a user name and a password, or neither")
    if given and parts.scheme == "smtps":
        raise ValueError("smtp:// instead of smtps://, since it has the parameter starttls")
    return value.strip()


def database_url(value: str) -> str:
    if value.startswith("sqlite"):
        raise ValueError("a postgresql:// address; SQLite is not supported (`make up` brings a PostgreSQL of its own)")
    if not value.strip():
        return ""
    wanted = f"an address such as postgresql://user:password@host:5432/database, {_ENCODE}"
    parts = _split(value.strip(), ("postgresql", "postgres"), wanted)
    _parameters(parts, _DATABASE_PARAMETERS, wanted)
    if "/" in parts.path[1:]:
        raise ValueError(wanted)
    return value.strip()


def _split(value: str, schemes: tuple[str, ...], wanted: str) -> SplitResult:
    """The parts of an address.

    Raises ValueError(wanted) if it is malformed, if a `%` does not begin an escape, if it contains control characters
    (also as escapes) or bytes that are not UTF-8, or if an `@` does not end the login. An unencoded `@`, `/`, `?` or
    `#` in a password moves the rest of the password into another part of the address.
    """
    try:
        parts = urlsplit(value)
        sound = parts.port != 0 and not has_controls(unquote(value, errors="strict"))
    except ValueError:
        raise ValueError(wanted) from None
    if re.search(r"\s|%(?![0-9A-Fa-f]{2})", value) or len(value) > MAX_TEXT:
        sound = False
    if (
        not sound
        or parts.scheme not in schemes
        or parts.fragment
        or value.count("@") != min(parts.netloc.count("@"), 1)
    ):
        raise ValueError(wanted)
    return parts


def _parameters(parts: SplitResult, known: Mapping[str, Callable[[str], object]], wanted: str) -> set[str]:
    """The names of the parameters of an address. Raises ValueError unless each is given once, with a valid value."""
    given = parse_qsl(parts.query, keep_blank_values=True)
    names = {name for name, _ in given}
    if len(names) < len(given) or not all(value for _, value in given):
        raise ValueError(wanted)
    for name, value in given:
        if name in known:
            try:
                known[name](value)
            except ValueError as problem:
                raise ValueError(f"its parameter {name} to be {problem}") from None
    return names


def _origin(word: str) -> str:
    wanted = "origins such as https://app.example or http://localhost:3000, without a path, or *"
    try:
        parts = urlsplit(word)
        port = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    name = parts.hostname or ""
    authority = f"[{name}]" if ":" in name else name
    authority += f":{port}" if port is not None else ""
    origin = word.lower()
    if not name or not word.isascii() or " " in word or "%" in word or origin != f"{parts.scheme}://{authority}":
        raise ValueError(wanted)
    return origin.removesuffix({"http": ":80", "https": ":443"}.get(parts.scheme, "\0"))
