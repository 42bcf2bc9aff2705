"""HTTP with the rules of the client: https, bounded answers, redirects that never carry a token away, and retries."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TypeVar
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Timeout, make_headers
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import parse_url

from registry.client.address import is_local, origin, require_https
from registry.client.failures import ClientError, TryLater

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
MAX_REDIRECTS = 3
BLOCK = 64 << 10
# The pauses between attempts, in seconds. Each is shortened at random, so that clients don't come back all at once.
PAUSES = (0.5, 1.0, 2.0, 4.0)
LONGEST_PAUSE = 60.0
_REDIRECTS = {301, 302, 303, 307, 308}
_REDIRECTS_WITH_BODY = {307, 308}

T = TypeVar("T")
Body = bytes | IO[bytes]


@dataclass(frozen=True)
class Request:
    """A request. `content` gives its body, again after a redirect. `seconds` limits each wait for data.

    A request that may be redirected `elsewhere` loses its Authorization header on the way to another origin.
    """

    method: str
    address: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Callable[[], Body] | None = None
    seconds: float = READ_SECONDS
    elsewhere: bool = False


class Transport:
    """Sends requests. `note` gets a text before each pause between two attempts."""

    def __init__(
        self,
        user_agent: str,
        *,
        allow_http: bool = False,
        note: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._user_agent = user_agent
        self._allow_http = allow_http
        self._note = note
        self._sleep = sleep
        self._pools: dict[str, PoolManager] = {}

    def send(self, request: Request, read: Callable[[BaseHTTPResponse], T]) -> T:
        """The result of `read` on the answer, whatever its status. Follows redirects; makes one attempt.

        Raises TryLater when the connection fails, also while `read` reads, and ClientError for a bad certificate and
        for redirects that are not followed.
        """
        address, headers = request.address, {"User-Agent": self._user_agent, **request.headers}
        for _ in range(MAX_REDIRECTS + 1):
            require_https(address, allow_http=self._allow_http)
            with _connection_errors(address):
                response = self._pool(address).urlopen(
                    request.method,
                    address,
                    body=request.content() if request.content else None,
                    headers=headers,
                    preload_content=False,
                    decode_content=False,
                    redirect=False,
                    retries=False,
                    timeout=Timeout(connect=CONNECT_SECONDS, read=request.seconds),
                )
                try:
                    if response.status not in _REDIRECTS:
                        return read(response)
                    target = urljoin(address, response.headers.get("Location", ""))
                finally:
                    response.close()
            if origin(target) != origin(address):
                headers = _without_credentials(request, address, target, headers)
            elif request.method != "GET" and response.status not in _REDIRECTS_WITH_BODY:
                raise ClientError(f"{address} answers {request.method} with the redirect {response.status}.")
            address = target
        raise ClientError(f"{request.address} redirects more than {MAX_REDIRECTS} times.")

    def retry(self, attempt: Callable[[], T]) -> T:
        """The result of `attempt`, which is repeated after TryLater: five attempts in all.

        A server's Retry-After is the pause, unless it is longer than a minute: then the failure is raised.
        """
        for pause in PAUSES:
            try:
                return attempt()
            except TryLater as failure:
                wait = failure.retry_after if failure.retry_after is not None else pause * random.uniform(0.5, 1)
                if wait > LONGEST_PAUSE:
                    raise
                self._note(f"{failure} Trying again in {wait:.1f} s.")
            self._sleep(wait)
        return attempt()

    def _pool(self, address: str) -> PoolManager:
        proxy = _proxy_of(address)
        if proxy not in self._pools:
            self._pools[proxy] = _pool_manager(proxy)
        return self._pools[proxy]


def read_bounded(response: BaseHTTPResponse, limit: int) -> bytes:
    """The body. Raises ClientError when it has more than `limit` bytes."""
    data = bytearray()
    while block := response.read(BLOCK, decode_content=False):
        data += block
        if len(data) > limit:
            raise ClientError(f"The answer is larger than {limit:,} bytes, which is more than an answer may have.")
    return bytes(data)


@contextmanager
def _connection_errors(address: str) -> Iterator[None]:
    """Names the failures of urllib3."""
    where = "{}://{}:{}".format(*origin(address))
    try:
        yield
    except SSLError as error:
        raise ClientError(
            f"The certificate of {where} can't be verified: {error}. {_certificate_advice(str(error))}"
        ) from error
    except HTTPError as error:
        reason = next(text for kind, text in _REASONS if isinstance(error, kind))
        raise TryLater(f"{where} can't be reached: {reason}.", code="no_connection") from error


def _certificate_advice(reason: str) -> str:
    if "expired" in reason or "not yet valid" in reason:
        return "Check the clock of this computer."
    return "If your company signed it, name the company's CA file in SSL_CERT_FILE."


# A subclass comes before its base class.
_REASONS = (
    (NameResolutionError, "its name can't be resolved"),
    (NewConnectionError, "it takes no connections"),
    (ConnectTimeoutError, f"no connection in {CONNECT_SECONDS:.0f} s"),
    (ReadTimeoutError, "it sends nothing"),
    (ProxyError, "the proxy refuses the connection"),
    (HTTPError, "the connection broke off"),
)


def _without_credentials(request: Request, address: str, target: str, headers: Mapping[str, str]) -> dict[str, str]:
    if not request.elsewhere:
        there = "{}://{}:{}".format(*origin(target))
        raise ClientError(
            f"{address} redirects to {there}. Your token is not sent there. If that is the registry's real address, "
            "use it as --url."
        )
    return {name: value for name, value in headers.items() if name.lower() != "authorization"}


def _proxy_of(address: str) -> str:
    """The proxy of the environment for this address; "" for none. This computer is asked directly."""
    parts = urlsplit(address)
    if is_local(address) or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return getproxies().get(parts.scheme, "")


def _pool_manager(proxy: str) -> PoolManager:
    if not proxy:
        return PoolManager(blocksize=BLOCK)
    credentials = parse_url(proxy).auth
    headers = make_headers(proxy_basic_auth=unquote(credentials)) if credentials else None
    return ProxyManager(proxy, proxy_headers=headers, blocksize=BLOCK)
