"""Checkpoints and the keys that sign them."""

import base64
import hashlib
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from registry.changes import checkpoints
from registry.changes.checkpoints import Checkpoints
from registry.changes.log import ChangeLog
from registry.db.engine import Database
from registry.keys import DB
from tests.changes.events import append, sql, value
from tests.changes.reading import ZERO, canonical, read_all
from tests.client import Registry
from tests.conftest import LOG_KEY, MakeRegistry
from tests.until import until
from tests.web.shape import check_error

OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
SEED = base64.b64decode(LOG_KEY)


async def get(registry: Registry, path: str) -> Any:
    answer = await registry.get(f"/changes/{path}")
    assert answer.status == 200, answer.body
    return answer.json


def check_signature(checkpoint: Any, key: Any) -> None:
    assert checkpoint["key_id"] == key["key_id"]
    signed = canonical({name: checkpoint[name] for name in ("seq", "hash", "at", "key_id")})
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key["public_key"], validate=True))
    public.verify(base64.b64decode(checkpoint["signature"], validate=True), signed)


async def test_a_checkpoint_signs_the_end_of_the_log(registry: Registry):
    empty = await get(registry, "checkpoint")
    assert (empty["seq"], empty["hash"]) == (0, ZERO)
    published = await (await registry.user()).publish("demo")
    checkpoint = await get(registry, "checkpoint")
    assert set(checkpoint) == {"seq", "hash", "at", "key_id", "signature"}
    [key] = (await get(registry, "keys"))["keys"]
    assert (key["valid_to"], key["vouched_by"], key["voucher"]) == (None, None, None)
    assert len(base64.b64decode(key["public_key"])) == 32
    for each in (empty, checkpoint):
        check_signature(each, key)
    assert checkpoint["seq"] == published["seq"]
    assert checkpoint["hash"] == (await read_all(registry))[-1]["hash"]
    assert key["valid_from"] <= empty["at"] <= checkpoint["at"]


async def test_without_a_key_the_registry_says_so(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_LOG_KEY="")
    answer = await registry.get("/changes/checkpoint")
    check_error(answer, 501)
    assert answer.json["code"] == "not_configured"
    assert "REGISTRY_LOG_KEY" in answer.json["detail"]
    assert await get(registry, "keys") == {"keys": []}


async def test_the_old_key_vouches_for_the_new_one_and_stays_valid_for_a_while(make_registry: MakeRegistry):
    before = await make_registry(REGISTRY_LOG_KEY=OLD)
    signed_before = await get(before, "checkpoint")
    after = await make_registry(REGISTRY_LOG_KEY=f"{NEW},{OLD}")
    signed_after = await get(after, "checkpoint")
    old, new = (await get(after, "keys"))["keys"]
    check_signature(signed_before, old)
    check_signature(signed_after, new)
    assert new["valid_to"] is None
    overlap = datetime.fromisoformat(old["valid_to"]) - datetime.fromisoformat(new["valid_from"])
    assert overlap == checkpoints.OVERLAP
    assert (new["vouched_by"], old["vouched_by"], old["voucher"]) == (old["key_id"], None, None)
    introduced = canonical({"key_id": new["key_id"], "public_key": new["public_key"]})
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(old["public_key"]))
    public.verify(base64.b64decode(new["voucher"]), introduced)
    assert new["key_id"] == hashlib.sha256(base64.b64decode(new["public_key"])).hexdigest()[:16]
    # The process that was not restarted yet signs with the old key, which is still listed.
    check_signature(await get(before, "checkpoint"), old)


async def test_a_removed_private_key_stays_listed(make_registry: MakeRegistry):
    for keys in (OLD, f"{NEW},{OLD}"):
        listed = (await get(await make_registry(REGISTRY_LOG_KEY=keys), "keys"))["keys"]
    assert (await get(await make_registry(REGISTRY_LOG_KEY=NEW), "keys"))["keys"] == listed


async def test_a_key_without_its_predecessor_gets_its_voucher_later(make_registry: MakeRegistry):
    await get(await make_registry(REGISTRY_LOG_KEY=OLD), "keys")
    [_, alone] = (await get(await make_registry(REGISTRY_LOG_KEY=NEW), "keys"))["keys"]
    assert alone["voucher"] is None
    [_, vouched] = (await get(await make_registry(REGISTRY_LOG_KEY=f"{NEW},{OLD}"), "keys"))["keys"]
    assert vouched["voucher"]
    assert {**vouched, "vouched_by": None, "voucher": None} == alone


async def stored(db: Database) -> Any:
    return await value(db, "SELECT array_agg(seq ORDER BY seq) FROM change_checkpoints")


async def test_a_checkpoint_is_stored_after_many_changes_or_an_hour(db: Database):
    made = Checkpoints(db, ChangeLog(db), [SEED])
    await made.store_if_due()
    assert await stored(db) is None
    await append(db)
    await made.store_if_due()
    assert await stored(db) == [1]
    await append(db, 5)
    await made.store_if_due()
    assert await stored(db) == [1]
    await sql(db, "UPDATE change_checkpoints SET at = at - interval '1 hour'")
    await made.store_if_due()
    assert await stored(db) == [1, 6]
    await append(db, checkpoints.EVERY_CHANGES - 1)
    await made.store_if_due()
    assert await stored(db) == [1, 6]
    await append(db)
    await made.store_if_due()
    assert await stored(db) == [1, 6, 1006]
    await sql(db, "UPDATE change_checkpoints SET at = at - interval '1 day'")
    await made.store_if_due()
    assert await stored(db) == [1, 6, 1006]


async def test_nothing_is_stored_without_a_key(db: Database):
    await append(db)
    await Checkpoints(db, ChangeLog(db), []).store_if_due()
    assert await stored(db) is None


async def test_a_job_stores_checkpoints(registry: Registry):
    await (await registry.user()).publish("demo")
    db = registry.app[DB]
    await sql(db, "UPDATE jobs SET run_at = now() WHERE kind = 'store checkpoints'")

    async def is_stored() -> bool:
        return bool(await stored(db))

    await until(is_stored)
