"""The address of a request's client, also behind trusted proxies."""

import functools
import ipaddress
import re

from aiohttp import hdrs, web

UNKNOWN = "unknown"
# Parsing an address takes longer than counting a request, so the results are cached.
CACHED_ADDRESSES = 10_000
# An IPv6 customer gets a network of at least this prefix and may use any address in it.
IPV6_PREFIX = 64

_WITH_PORT = re.compile(r"\[(?P<v6>[^\]]*:[^\]]*)\](?::[0-9]{1,5})?|(?P<v4>[0-9.]+):[0-9]{1,5}")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ClientAddress:
    """Finds a request's client. Trusts an entry of X-Forwarded-For only if a trusted proxy added it."""

    def __init__(self, trusted: tuple[str, ...], country_header: str = "") -> None:
        self._trusted = [ipaddress.ip_network(item, strict=False) for item in trusted]
        self._country_header = country_header

    def of(self, request: web.Request) -> str:
        """The client's address without port and zone, or `unknown`.

        It is the address nearest to this server that is not a trusted proxy.
        """
        address = parse(request.remote or "")
        if address is None:
            return UNKNOWN
        if self._is_trusted(address):
            for hop in reversed(",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, [])).split(",")):
                if not hop.strip():
                    continue  # a list may have empty elements (RFC 9110, 5.6.1)
                forwarded = parse(hop)
                if forwarded is None:
                    break
                address = forwarded
                if not self._is_trusted(address):
                    break
        return str(address)

    def country(self, request: web.Request) -> str:
        """The client's country as two capital letters if a trusted proxy named it, else ""."""
        if not self._country_header:
            return ""
        code = request.headers.get(self._country_header, "")
        peer = parse(request.remote or "")
        known = peer is not None and self._is_trusted(peer) and re.fullmatch(r"[A-Za-z]{2}", code)
        return code.upper() if known else ""

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


@functools.lru_cache(CACHED_ADDRESSES)
def parse(text: str) -> Address | None:
    """The address in an entry of X-Forwarded-For, None if there is none.

    The entry may have quotes, a port, or brackets. An IPv4 address that is mapped into IPv6 becomes IPv4. A zone is
    dropped, since it means nothing outside the host that named it and PostgreSQL's type inet has no place for it.
    """
    text = text.strip(" \t")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if found := _WITH_PORT.fullmatch(text):
        text = found["v6"] or found["v4"] or ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or ipaddress.IPv6Address(int(address))  # int() drops the zone
    return address


@functools.lru_cache(CACHED_ADDRESSES)
def network_key(address: str) -> str:
    """The rate limiter's key for a client's address. All addresses of one IPv6 /64 share a key."""
    parsed = parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return f"ip:{ipaddress.IPv6Network((int(parsed), IPV6_PREFIX), strict=False)}"
    return f"ip:{parsed or address}"
