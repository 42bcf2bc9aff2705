"""The address of a request's client, also behind trusted proxies."""

import functools
import ipaddress
import re

from aiohttp import hdrs, web

UNKNOWN = "unknown"
CACHED_ADDRESSES = 10_000
# Longer texts are no addresses. They are not cached, so that clients can't fill the memory with them.
MAX_ENTRY = 128
# Providers give each customer an IPv6 network of this size or larger, so its addresses count as one client.
IPV6_PREFIX = 64

_WITH_PORT = re.compile(r"\[(?P<v6>[^\]]*:[^\]]*)\](?::[0-9]{1,5})?|(?P<v4>[0-9.]+):[0-9]{1,5}")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Networks that are not part of the public Internet, and those whose IPv6 addresses stand for IPv4 addresses.
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
            "168.63.129.16/32",  # metadata of a cloud, at a public address
            "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32",
            "2002::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
        ),
    )
)  # fmt: skip


class ClientAddress:
    """Finds a request's client. Trusts an entry of X-Forwarded-For only if a trusted proxy added it."""

    def __init__(self, trusted: tuple[str, ...], country_header: str = "") -> None:
        self._trusted = [ipaddress.ip_network(item, strict=False) for item in trusted]
        self._country_header = country_header
        # Formatting and comparing addresses takes longer than counting a request, so the results are cached.
        self._peer = functools.lru_cache(CACHED_ADDRESSES)(self._read_peer)

    def of(self, request: web.Request) -> str:
        """The client's address without port and zone, or `unknown`.

        It is the address nearest to this server that is not a trusted proxy.
        """
        peer, is_trusted = self._peer(request.remote or "")
        if is_trusted:
            address = peer
            for hop in reversed(",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, [])).split(",")):
                if not hop.strip():
                    continue  # a list may have empty elements (RFC 9110, 5.6.1)
                forwarded = parse(hop)
                if forwarded is None:
                    break
                address = str(forwarded)
                if not self._is_trusted(forwarded):
                    break
            return address
        return peer

    def country(self, request: web.Request) -> str:
        """The client's country as two capital letters if a trusted proxy named it, else ""."""
        if not self._country_header:
            return ""
        code = request.headers.get(self._country_header, "")
        _, is_trusted = self._peer(request.remote or "")
        return code.upper() if is_trusted and re.fullmatch(r"[A-Za-z]{2}", code) else ""

    def _read_peer(self, text: str) -> tuple[str, bool]:
        """(the address of a connection's other end or `unknown`, whether it is a trusted proxy)."""
        address = parse(text)
        return (UNKNOWN, False) if address is None else (str(address), self._is_trusted(address))

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def parse(text: str) -> Address | None:
    """The address in an entry of X-Forwarded-For, None if there is none.

    The entry may have quotes, a port, or brackets. An IPv4 address that is mapped into IPv6 becomes IPv4. A zone is
    dropped, since it means nothing outside the host that named it and PostgreSQL's type inet has no place for it.
    """
    return _parse(text) if len(text) <= MAX_ENTRY else None


@functools.lru_cache(CACHED_ADDRESSES)
def _parse(text: str) -> Address | None:
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


@functools.lru_cache(CACHED_ADDRESSES)
def network_of(address: str, *, full: bool = False) -> str | None:
    """The network of an address (/24 of IPv4, /48 of IPv6), or the address itself if `full`. None if invalid."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    width = parsed.max_prefixlen if full else 24 if parsed.version == 4 else 48
    return str(ipaddress.ip_network(f"{parsed}/{width}", strict=False).network_address)


def is_ip(host: str) -> bool:
    """Whether the text is an IP address, and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether the text is an IP address of the public Internet, to which the registry may connect for anybody."""
    if not is_ip(address):
        return False
    ip = ipaddress.ip_address(address)
    return not getattr(ip, "scope_id", None) and not any(ip in network for network in _NOT_PUBLIC)
