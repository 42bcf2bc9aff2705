"""NAME[@VERSION] and USER[:ROLE]."""

import pytest

from registry.client.failures import WrongUsage
from registry.client.spec import parse, parse_name, parse_owner, parse_version


def test_a_package_may_have_a_version():
    assert parse("demo") == ("demo", "")
    assert parse("demo@1.0.0-rc.1+build") == ("demo", "1.0.0-rc.1+build")
    assert parse_version("demo@latest") == ("demo", "latest")
    assert parse_name("demo") == "demo"


@pytest.mark.parametrize("text", ["", "@", "@1.0.0", "demo@"])
def test_half_a_package_is_refused(text: str):
    with pytest.raises(WrongUsage):
        parse(text)


def test_a_missing_or_needless_version_is_named():
    with pytest.raises(WrongUsage, match="demo@VERSION"):
        parse_version("demo")
    with pytest.raises(WrongUsage, match="without a version"):
        parse_name("demo@1.0.0")


def test_owners_have_a_role():
    assert parse_owner("ada") == {"username": "ada", "role": "owner"}
    assert parse_owner("ada:maintainer") == {"username": "ada", "role": "maintainer"}
    for wrong in ("", ":owner", "ada:king"):
        with pytest.raises(WrongUsage):
            parse_owner(wrong)
