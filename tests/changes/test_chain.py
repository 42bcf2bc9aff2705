"""The hash of a change, and what a chain of them proves."""

import copy
import hashlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from registry.changes.chain import FIRST, link, timestamp
from registry.changes.keys import SigningKey, encode, is_signed, key_id_of, vouched_for
from registry.changes.verify import Chain, DoesNotFit

CHANGE = {
    "seq": 7, "at": "2026-01-02T03:04:05.000000Z", "type": "version.yanked", "package": "demo", "version": "1.0.0",
    "details": {"reason": "broken on \u00fcber \"x\"\n"},
}  # fmt: skip
# Written by hand from RFC 8785.
CANONICAL = (
    '{"at":"2026-01-02T03:04:05.000000Z","details":{"reason":"broken on \u00fcber \\"x\\"\\n"},"package":"demo",'
    '"seq":7,"type":"version.yanked","version":"1.0.0"}'
).encode()
RFC8032_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
RFC8032_PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


def test_a_hash_covers_the_hash_before_it_and_the_canonical_json():
    first = link(FIRST, CHANGE)
    assert first == hashlib.sha256(bytes(32) + CANONICAL).digest()
    assert link(first, CHANGE) == hashlib.sha256(first + CANONICAL).digest()
    assert link(FIRST, {**CHANGE, "hash": "anything"}) == first


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05.000000Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 120_000, tzinfo=UTC), "2026-01-02T03:04:05.120000Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 1, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:04:05.000001Z"),
    ],
)
def test_a_time_is_always_written_in_one_way(time: datetime, text: str):
    assert timestamp(time) == text


def chained(count: int) -> list[dict[str, Any]]:
    changes, previous = [], FIRST
    for seq in range(1, count + 1):
        previous = link(previous, {**CHANGE, "seq": seq})
        changes.append({**copy.deepcopy(CHANGE), "seq": seq, "hash": previous.hex()})
    return changes


def check(changes: list[dict[str, Any]], *marks: tuple[int, str, str]) -> Chain:
    chain = Chain(marks)
    for change in changes:
        chain.add(change)
    chain.end()
    return chain


def test_a_chain_that_nobody_altered_fits():
    changes = chained(5)
    chain = check(changes, (3, changes[2]["hash"], "x"), (5, changes[4]["hash"], "x"), (0, FIRST.hex(), "x"))
    assert (chain.count, chain.seq, chain.hash) == (5, 5, changes[4]["hash"])


@pytest.mark.parametrize(
    ("alter", "seq"),
    [
        (lambda changes: changes[2].update(package="other"), 3),
        (lambda changes: changes[2]["details"].update(reason="fine"), 3),
        (lambda changes: changes[2].update(hash="00" * 32), 3),
        (lambda changes: changes[2].pop("hash"), 3),
        (lambda changes: changes.pop(2), 4),
        (lambda changes: changes.insert(3, changes[2]), 3),
        (lambda changes: changes[1].update(seq=2**60), 2**60),
        (lambda changes: changes[1].update(seq="2"), 1),
    ],
)
def test_the_first_change_that_does_not_fit_is_named(alter: Any, seq: int):
    changes = chained(5)
    alter(changes)
    with pytest.raises(DoesNotFit) as fault:
        check(changes)
    assert fault.value.seq == seq
    assert f"Change {seq} " in str(fault.value)


def test_a_log_that_was_cut_or_rewritten_does_not_have_a_known_hash():
    changes = chained(5)
    known = (4, changes[3]["hash"], "the state")
    with pytest.raises(DoesNotFit, match=r"Change 4 .*the state"):
        check(changes[:3], known)
    with pytest.raises(DoesNotFit, match=r"Change 4 .*rewritten"):
        check(changes, (4, "00" * 32, "the state"))
    rewritten, previous = [], FIRST
    for seq in (1, 2, 3, 5):
        previous = link(previous, {**CHANGE, "seq": seq})
        rewritten.append({**CHANGE, "seq": seq, "hash": previous.hex()})
    with pytest.raises(DoesNotFit, match=r"Change 4 .*missing"):
        check(rewritten, known)


def test_keys_are_ed25519_as_in_rfc_8032():
    key = SigningKey(RFC8032_SEED)
    assert key.public_key == RFC8032_PUBLIC
    assert key.key_id == key_id_of(RFC8032_PUBLIC)
    signature = key.sign({"b": 1, "a": None})
    assert is_signed({"a": None, "b": 1}, signature, RFC8032_PUBLIC)
    assert not is_signed({"a": None, "b": 2}, signature, RFC8032_PUBLIC)
    assert not is_signed({"a": None, "b": 1}, signature, bytes(31))


def test_a_key_is_trusted_if_keys_vouch_for_it_from_a_trusted_one_on():
    first, second, third, stranger = (SigningKey(bytes([n]) * 32) for n in range(4))

    def listed(key: SigningKey, voucher: SigningKey | None, signer: SigningKey | None = None) -> dict[str, Any]:
        return {
            "key_id": key.key_id,
            "public_key": encode(key.public_key),
            "vouched_by": voucher and voucher.key_id,
            "voucher": voucher and encode((signer or voucher).vouch_for(key.public_key)),
        }

    keys = [listed(third, second), listed(first, None), listed(second, first), listed(stranger, first, stranger)]
    assert set(vouched_for([first.public_key], keys)) == {first.key_id, second.key_id, third.key_id}
    assert set(vouched_for([second.public_key], keys)) == {second.key_id, third.key_id}
    renamed = {**listed(stranger, first), "key_id": third.key_id}
    assert set(vouched_for([first.public_key], [renamed])) == {first.key_id}
