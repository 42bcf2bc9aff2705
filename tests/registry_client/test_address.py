"""Addresses of registries, origins, and where plain http is allowed."""

import pytest

from registry.client.address import api_path, is_local, normalise, origin, require_https
from registry.client.failures import WrongUsage


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://registry.example.com", "https://registry.example.com"),
        ("https://Registry.Example.com/", "https://registry.example.com"),
        ("https://registry.example.com:443/api/v1/", "https://registry.example.com"),
        ("http://127.0.0.1:8080/api/v1", "http://127.0.0.1:8080"),
        ("https://example.com/registry/", "https://example.com/registry"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_address_has_one_form(given: str, expected: str):
    assert normalise(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "registry.example.com",
        "ftp://registry.example.com",
        "https://",
        "https://ada:secret@registry.example.com",
        "https://registry.example.com?x=1",
        "https://registry.example.com#x",
        "https://registry.example.com:99999",
        "https://registry.example.com:0",
        "https://registry.example.com /x",
        "https://registry.example.com/\x1b[2J",
        "https://[::1",
    ],
)
def test_other_texts_are_no_address(given: str):
    with pytest.raises(WrongUsage):
        normalise(given)


@pytest.mark.parametrize("local", ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]", "http://localhost:80"])
def test_plain_http_is_for_this_computer(local: str):
    assert is_local(local)
    require_https(local, allow_http=False)


@pytest.mark.parametrize("remote", ["http://10.0.0.1", "http://localhost.example.com", "http://127.0.0.1.example.com"])
def test_plain_http_to_others_needs_permission(remote: str):
    with pytest.raises(WrongUsage, match="--allow-http"):
        require_https(remote, allow_http=False)
    require_https(remote, allow_http=True)
    require_https(remote.replace("http:", "https:"), allow_http=False)


def test_origins_compare_scheme_host_and_port():
    assert origin("https://a.example/x") == origin("https://A.example:443/y?z")
    assert len({origin(f"{text}") for text in ("https://a.example", "http://a.example", "https://a.example:8")}) == 3


def test_segments_of_a_path_are_escaped():
    assert api_path("packages", "../auth", "1.0.0+a/b") == "/packages/..%2Fauth/1.0.0%2Ba%2Fb"
