"""Decides to which addresses webhooks may be sent.

A user chooses the URL, so without these checks the registry could be made to call servers that only it can reach. A URL
is checked when a webhook is made. That is not enough, because a name may resolve to another address later. So each
address is checked again right before a connection to it is made.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from yarl import URL

from registry.setting_parts import WebhookSettings
from registry.setting_types import has_controls
from registry.web.addresses import is_ip, is_public

MAX_URL = 2048
# Servers at this address and with these names tell machines in clouds their credentials.
METADATA_ADDRESS = "169.254.169.254"
METADATA_NAMES = frozenset(("metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"))
LOOKUP_SECONDS = 2.0
# Threads for DNS. They are not shared with other work, because a slow name server keeps them busy.
LOOKUPS = 8


class AddressRefused(OSError):
    """The address must not be dialled. The text says why."""


class Guard:
    """The rules of the settings. `resolve` looks names up in `threads`."""

    def __init__(self, settings: WebhookSettings, threads: ThreadPoolExecutor) -> None:
        self._allowed = [ipaddress.ip_network(each, strict=False) for each in settings.allow]
        self._http = settings.http
        self._threads = threads

    def check_address(self, address: str) -> None:
        """Raises AddressRefused unless the IP address may be dialled."""
        ip = ipaddress.ip_address(address)
        if any(ip in network for network in self._allowed) or is_public(address):
            return
        # The text doesn't show the address: users must not learn what names mean in the operator's network.
        raise AddressRefused("The address is not public, and REGISTRY_WEBHOOK_ALLOW does not name it.")

    def check_url(self, text: str) -> URL:
        """The URL in `text`. Raises ValueError if it is malformed or must not be used. Looks up no name."""
        try:
            url = URL(text)
            port = url.port
        except ValueError:
            raise ValueError("must be an address such as https://ci.example/hook") from None
        if len(text) > MAX_URL or has_controls(text) or " " in text or "\\" in text:
            raise ValueError(f"must have at most {MAX_URL} characters, without blanks and backslashes")
        if url.scheme == "http" and not self._http:
            raise ValueError("must begin with https:// (the operator may allow http by REGISTRY_WEBHOOK_HTTP)")
        if url.scheme not in ("http", "https") or not url.host or not port or "%" in url.host:
            raise ValueError("must be an address such as https://ci.example/hook")
        if "@" in urlsplit(text).netloc:
            raise ValueError("must not contain a user name or password")
        host = url.host.rstrip(".")
        address = host if is_ip(host) else _address_of_known_name(host)
        if address and (refusal := self._refusal(address)):
            raise ValueError(refusal)
        return url

    async def check_name(self, url: URL) -> None:
        """Looks up the name in `url`. Raises ValueError if it leads only to addresses that must not be dialled.

        A name that can't be looked up now is accepted: each connection is checked again.
        """
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await self.resolve(url.raw_host or "", url.port or 0)
        except (OSError, TimeoutError):
            return
        addresses = {entry[4][0] for entry in found}
        refused = [reason for each in addresses if (reason := self._refusal(each))]
        if refused and len(refused) == len(addresses):
            raise ValueError(refused[0])

    def _refusal(self, address: str) -> str:
        """Why the address must not be dialled; empty text if it may be."""
        try:
            self.check_address(address)
        except AddressRefused as refused:
            return f"leads to an address that is not allowed. {refused}"
        return ""

    async def resolve(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> Sequence[Any]:
        """The addresses of a name, as socket.getaddrinfo() gives them. Raises OSError."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            )
        except UnicodeError:
            raise OSError(f"{host} is not a valid name.") from None

    def make_socket(self, info: Any) -> socket.socket:
        """A socket for one address that is about to be dialled. Raises AddressRefused."""
        family, kind, protocol, _, address = info
        self.check_address(address[0])
        return socket.socket(family, kind, protocol)


@asynccontextmanager
async def open_guard(settings: WebhookSettings) -> AsyncIterator[Guard]:
    """A guard with threads for DNS. They end with the block; it does not wait for slow name servers."""
    threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="webhook-dns")
    try:
        yield Guard(settings, threads)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def host_of(url: URL) -> str:
    """Host and port, in one spelling."""
    return f"{(url.raw_host or '').lower().rstrip('.')}:{url.port}"


def _address_of_known_name(host: str) -> str:
    """The address of a name that means the same in every network, also where it can't be looked up. Otherwise ""."""
    name = host.lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761
        return "127.0.0.1"
    return METADATA_ADDRESS if name in METADATA_NAMES else ""
