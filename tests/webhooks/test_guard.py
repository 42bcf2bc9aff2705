"""To which addresses webhooks may be sent."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.setting_parts import WebhookSettings
from registry.webhooks.guard import AddressRefused, Guard, host_of

REFUSED = (
    "0.1.2.3", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.9.9.9", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.168.0.1", "192.0.0.192", "198.18.0.1", "224.0.0.1", "239.255.255.250", "255.255.255.255",
    "168.63.129.16", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:7f00:1",
    "64:ff9b::7f00:1", "64:ff9b::808:808", "2002:7f00:1::", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0",
    "ff02::1",
)  # fmt: skip
PUBLIC = ("8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "2606:4700::1111", "2a00::1")


def guard(*allow: str, http: bool = False) -> Guard:
    settings = WebhookSettings(allow=allow, http=http, retention=None)  # type: ignore[arg-type]
    return Guard(settings, ThreadPoolExecutor(1))


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_not_public_are_refused(address: str):
    with pytest.raises(AddressRefused):
        guard().check_address(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str):
    guard().check_address(address)


def test_the_operator_may_allow_networks():
    some = guard("10.0.0.0/8", "fd00::/8")
    some.check_address("10.1.2.3")
    some.check_address("fd00::1")
    for other in ("192.168.0.1", "::ffff:10.1.2.3", "fc00::1"):
        with pytest.raises(AddressRefused):
            some.check_address(other)


@pytest.mark.parametrize(
    "url",
    [
        "", "hook", "//ci.example/hook", "ftp://ci.example/", "file:///etc/passwd", "http://ci.example/", "https://",
        "https:///hook", "https://ada@ci.example/", "https://ada:secret@ci.example/", "https://@ci.example/",
        "https://ci.example:0/", "https://ci.example:99999/", "https://ci.example/a b", "https://ci.example/\n",
        "https://ci.example\\@127.0.0.1/", "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/",
        "https://[fe80::1%25eth0]/", "https://10.0.0.1:8443/hook", "https://10.0.0.1./",
        "https://localhost./", "https://hooks.LOCALHOST/", "https://metadata.google.internal/", "https://metadata.goog./",
        "https://ci.example/" + "x" * 2048,
    ],
)  # fmt: skip
def test_urls_that_must_not_be_used_are_refused(url: str):
    with pytest.raises(ValueError, match=r"must|leads"):
        guard().check_url(url)


def test_a_url_keeps_its_port_and_query():
    url = guard().check_url("https://CI.example:8443/hook?token=x")
    assert str(url) == "https://ci.example:8443/hook?token=x"
    assert host_of(url) == "ci.example:8443"
    assert host_of(guard().check_url("https://ci.example./")) == "ci.example:443"


@pytest.mark.parametrize("name", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
async def test_names_and_numbers_that_lead_to_this_machine_are_refused(name: str):
    some = guard()
    with pytest.raises(ValueError, match=r"not allowed|must"):
        await some.check_name(some.check_url(f"https://{name}/"))


async def test_a_name_with_one_allowed_address_is_accepted(monkeypatch: pytest.MonkeyPatch):
    some = guard("127.0.0.0/8")

    async def both(*_: object) -> list[object]:
        return [(0, 0, 0, "", (each, 443)) for each in ("::1", "127.0.0.1")]

    monkeypatch.setattr(some, "resolve", both)
    await some.check_name(some.check_url("https://localhost/"))


async def test_a_name_that_does_not_resolve_now_is_accepted():
    some = guard()
    await some.check_name(some.check_url("https://nowhere.invalid/"))


def test_a_socket_is_made_only_for_an_allowed_address():
    with pytest.raises(AddressRefused):
        guard().make_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443)))
    made = guard().make_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443)))
    made.close()
