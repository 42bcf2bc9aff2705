import pytest

from registry.errors import SecretUnreadable
from registry.sealing import Sealer

OLD, NEW = "an old key of some length", "a new key of some length"


def test_a_secret_is_read_with_the_key_that_sealed_it():
    sealed = Sealer([OLD], "webhook").seal(b"secret")
    assert "secret" not in sealed
    assert Sealer([OLD], "webhook").open(sealed) == b"secret"


def test_the_same_secret_is_never_sealed_to_the_same_text():
    sealer = Sealer([OLD], "webhook")
    assert sealer.seal(b"secret") != sealer.seal(b"secret")


def test_after_a_rotation_old_secrets_are_read_and_new_ones_use_the_new_key():
    before, after = Sealer([OLD], "webhook"), Sealer([NEW, OLD], "webhook")
    assert after.open(before.seal(b"secret")) == b"secret"
    assert Sealer([NEW], "webhook").open(after.seal(b"secret")) == b"secret"
    assert Sealer([NEW], "webhook").open(after.reseal(before.seal(b"secret"))) == b"secret"


@pytest.mark.parametrize(
    "sealer", [Sealer([NEW], "webhook"), Sealer([OLD], "totp")], ids=["other key", "other purpose"]
)
def test_another_key_or_purpose_reads_nothing_and_says_what_to_do(sealer):
    with pytest.raises(SecretUnreadable, match="REGISTRY_SECRET_KEY lacks the key"):
        sealer.open(Sealer([OLD], "webhook").seal(b"secret"))


@pytest.mark.parametrize("sealed", ["", "nonsense", "é", "gAAAAA"])
def test_a_changed_text_is_refused(sealed):
    with pytest.raises(SecretUnreadable):
        Sealer([OLD], "webhook").open(sealed)
