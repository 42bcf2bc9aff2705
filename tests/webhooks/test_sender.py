"""What the sender makes of receivers that answer badly, slowly or not at all."""

import asyncio
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from ephemeral_port_reserve import reserve

from registry.setting_parts import WebhookSettings
from registry.webhooks import sender as module
from registry.webhooks.guard import Guard
from registry.webhooks.sender import Sender, open_sender
from tests.until import until
from tests.webhooks.receiver import Receiver, answering, closing, endless, hanging, redirecting


class Rebinding(Guard):
    """Its name server gives another address each time."""

    def __init__(self, *addresses: str) -> None:
        super().__init__(WebhookSettings((), True, datetime.timedelta(1)), ThreadPoolExecutor(1))
        self.addresses = list(addresses)

    async def resolve(self, host: str, port: int, family: int = 0) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.addresses.pop(0), port))]


@asynccontextmanager
async def sending(*, http: bool = True, seconds: float = module.TOTAL_SECONDS) -> AsyncIterator[Sender]:
    settings = WebhookSettings(("127.0.0.0/8",), http, datetime.timedelta(1))
    async with open_sender(Guard(settings, ThreadPoolExecutor(1)), seconds=seconds) as sender:
        yield sender


async def test_a_redirect_is_a_failure_and_is_not_followed(receiver: Receiver):
    receiver.answers["/"] = redirecting
    async with sending() as sender:
        outcome = await sender.send(receiver.url(), b"{}", {})
    assert outcome.status == 302
    assert outcome.error
    assert [each.path for each in receiver.received] == ["/"]


async def test_a_gigabyte_is_not_read(receiver: Receiver):
    receiver.answers["/"] = endless
    async with sending() as sender:
        outcome = await sender.send(receiver.url(), b"{}", {})
        assert (outcome.status, outcome.error) == (200, None)
        assert outcome.response == "g" * 4096
        await until(lambda: receiver.now == 0)


async def test_half_an_answer_is_a_failure(receiver: Receiver):
    receiver.answers["/"] = closing
    async with sending() as sender:
        outcome = await sender.send(receiver.url(), b"{}", {})
    assert outcome.status == 200
    assert outcome.error


async def test_nothing_is_decompressed(receiver: Receiver):
    async def packed(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"\x1f\x8bnot really", headers={"Content-Encoding": "gzip"})

    receiver.answers["/"] = packed
    async with sending() as sender:
        outcome = await sender.send(receiver.url(), b"{}", {})
    assert (outcome.error, outcome.response) == (None, "\x1f\ufffdnot really")


async def test_a_receiver_that_does_not_answer_is_given_up(receiver: Receiver):
    assert (module.CONNECT_SECONDS, module.TOTAL_SECONDS) == (5, 15)
    receiver.answers["/"] = hanging
    async with sending(seconds=0.2) as sender:
        outcome = await sender.send(receiver.url(), b"{}", {})
    assert outcome.status is None
    assert outcome.response is None
    assert "in time" in (outcome.error or "")


async def test_a_receiver_that_is_not_there_is_an_outcome():
    async with sending() as sender:
        outcome = await sender.send(f"http://127.0.0.1:{reserve()}/", b"{}", {})
    assert outcome.status is None
    assert outcome.error


async def test_http_is_refused_unless_it_is_allowed(receiver: Receiver):
    async with sending(http=False) as sender:
        outcome = await sender.send(receiver.url(), b"{}", {})
    assert "https" in (outcome.error or "")
    assert not receiver.received


async def test_the_address_that_is_dialled_is_checked_not_the_one_of_an_earlier_look_up(receiver: Receiver):
    guard = Rebinding("8.8.8.8", "127.0.0.1")
    url = guard.check_url(f"http://rebinding.example:{receiver.port}/")
    await guard.check_name(url)
    async with open_sender(guard) as sender:
        outcome = await sender.send(str(url), b"{}", {})
    assert "not public" in (outcome.error or "")
    assert outcome.status is None
    assert not receiver.received


async def test_a_literal_private_address_is_refused_when_it_is_dialled(receiver: Receiver):
    guard = Rebinding()
    async with open_sender(guard) as sender:
        outcome = await sender.send(receiver.url(), b"{}", {})
        with pytest.raises(aiohttp.ClientConnectorError):
            await sender._session.post(receiver.url())
    assert "not allowed" in (outcome.error or "")
    assert not receiver.received


async def test_a_certificate_of_nobody_we_know_is_a_failure(tmp_path: Path):
    async def accept(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        raise AssertionError("the handshake must fail")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server, sending() as sender:
        outcome = await sender.send(f"https://127.0.0.1:{port}/", b"{}", {})
    assert "certificate" in (outcome.error or "").lower()


async def test_answers_other_than_2xx_are_failures(receiver: Receiver):
    async with sending() as sender:
        for status, is_success in ((200, True), (204, True), (299, True), (304, False), (404, False), (500, False)):
            receiver.answers["/"] = answering(status)
            outcome = await sender.send(receiver.url(), b"{}", {})
            assert (outcome.error is None) == is_success, status
            assert outcome.status == status


def self_signed(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "receiver.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
