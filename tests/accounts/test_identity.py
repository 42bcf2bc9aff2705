import pytest

from registry.accounts.identity import SCOPES, Principal
from registry.errors import Forbidden


def principal(role: str = "user", scopes: set[str] | None = None, packages: set[str] | None = None) -> Principal:
    return Principal(
        user_id=1,
        username="ada",
        role=role,
        credentials_version=1,
        scopes=None if scopes is None else frozenset(scopes),
        packages=None if packages is None else frozenset(packages),
        token_id=None if scopes is None else 5,
    )


def test_a_login_may_do_everything_but_administer():
    who = principal()
    assert [scope for scope in SCOPES if who.may(scope, "p")] == ["publish", "yank", "read", "manage"]
    assert who.is_login
    assert not who.is_admin


def test_an_api_token_may_do_what_its_scopes_say():
    who = principal(scopes={"publish"})
    assert [scope for scope in SCOPES if who.may(scope, "any")] == ["publish"]
    assert not who.is_login


def test_a_bound_api_token_may_not_be_used_for_other_packages():
    who = principal(scopes={"publish", "read"}, packages={"mine"})
    assert who.may("publish")
    assert who.may("publish", "mine")
    assert not who.may("publish", "other")
    assert not who.may("read", "other")


@pytest.mark.parametrize(
    ("role", "scopes", "packages", "is_admin"),
    [
        ("admin", None, None, True),
        ("admin", {"admin"}, None, True),
        ("admin", {"publish", "yank", "read"}, None, False),
        ("admin", {"admin"}, {"p"}, False),
        ("user", {"admin"}, None, False),
        ("user", None, None, False),
    ],
)
def test_who_is_an_admin(role: str, scopes: set[str] | None, packages: set[str] | None, is_admin: bool):
    who = principal(role, scopes, packages)
    assert who.is_admin is is_admin
    assert who.may("admin") is is_admin


def test_a_refusal_says_what_is_missing():
    with pytest.raises(Forbidden, match="lacks the scope `yank`"):
        principal(scopes={"publish"}).require("yank", "p")
    with pytest.raises(Forbidden, match="may not be used for the package p"):
        principal(scopes={"publish"}, packages={"q"}).require("publish", "p")
    with pytest.raises(Forbidden, match="Only an admin"):
        principal().require("admin")
    with pytest.raises(Forbidden, match="may not manage credentials"):
        principal(scopes={"admin"}).require_login()
    principal(scopes={"publish"}).require("publish", "p")
    principal().require_login()
