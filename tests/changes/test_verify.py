"""`synapse-registry log key` and `log verify`: the commands, as an operator or a mirror uses them."""

import base64
import json
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from registry.changes.checkpoints import Checkpoints
from registry.changes.keys import SigningKey, encode
from registry.changes.log import ChangeLog
from registry.db.engine import Database
from registry.keys import DB
from tests.changes.events import append, sql
from tests.client import Registry
from tests.conftest import LOG_KEY, MakeRegistry
from tests.contracts.test_access import scoped
from tests.service import run_command

OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
Verify = Callable[..., Awaitable[tuple[int, str, str]]]


def public(key: str) -> str:
    return encode(SigningKey(base64.b64decode(key)).public_key)


@pytest.fixture
def verify(tmp_path: Path, database_url: str) -> Verify:
    """Runs `log verify`: (exit status, stdout, stderr)."""

    async def run(*arguments: str, key: str = LOG_KEY) -> tuple[int, str, str]:
        environ = {} if "--url" in arguments else {"REGISTRY_DB_URL": database_url, "REGISTRY_LOG_KEY": key}
        return await run_command(tmp_path, "log", "verify", *arguments, **environ)

    return run


async def sign(db: Database) -> None:
    """Stores a checkpoint, as the job does."""
    await Checkpoints(db, ChangeLog(db), [base64.b64decode(LOG_KEY)]).store_if_due()


async def test_a_log_that_nobody_altered_fits(db: Database, verify: Verify):
    await append(db, 700, reason="\u00fc")
    await append(db, type_="log.lost")
    await append(db, 5)
    await sign(db)
    status, out, err = await verify()
    assert (status, out) == (0, "705 changes up to 706 fit, and so do 2 checkpoints.\n"), err
    assert public(LOG_KEY) in err


async def test_a_log_without_a_key_fits_but_is_not_signed(db: Database, verify: Verify):
    await append(db, 3)
    await ChangeLog(db).extend()
    status, out, err = await verify(key="")
    assert (status, out) == (0, "3 changes up to 3 fit, and so do 0 checkpoints.\n"), err
    assert "not signed" in err


@pytest.mark.parametrize(
    ("statement", "seq", "reason"),
    [
        ("UPDATE events SET package = 'evil' WHERE seq = 7", 7, "its hash"),
        ("UPDATE events SET created_at = created_at + interval '1 microsecond' WHERE seq = 7", 7, "its hash"),
        ("UPDATE events SET data = '{\"size\": 2}' WHERE seq = 7", 7, "its hash"),
        ("UPDATE events SET version = NULL WHERE seq = 7", 7, "its hash"),
        ("UPDATE events SET type = 'log.lost' WHERE seq = 7", 7, "log.lost"),
        ("UPDATE changes SET hash = sha256('x') WHERE seq = 7", 7, "its hash"),
        ("DELETE FROM events WHERE seq = 7", 7, "missing"),
        ("DELETE FROM changes WHERE seq = 7", 8, "its hash"),
        ("DELETE FROM changes WHERE seq > 7", 10, "checkpoint"),
        ("UPDATE change_checkpoints SET hash = sha256('x')", 10, "checkpoint"),
    ],
)
async def test_what_was_altered_in_the_database_is_named(
    db: Database, verify: Verify, statement: str, seq: int, reason: str
):
    await append(db, 10, size=1)
    await sign(db)
    await sql(db, "DELETE FROM events WHERE seq > 10")
    if statement.startswith("DELETE FROM changes WHERE seq >"):
        await sql(db, "DELETE FROM events WHERE seq > 7")
    assert await sql(db, statement) > 0
    status, out, err = await verify(key="")
    assert (status, out) == (1, ""), err
    if "change_checkpoints" not in statement:
        assert f"Change {seq} does not fit" in err
    assert reason in err


async def test_a_log_that_was_rewritten_as_a_whole_does_not_fit_its_checkpoints(db: Database, verify: Verify):
    await append(db, 10)
    await sign(db)
    await sql(db, "UPDATE events SET package = 'evil' WHERE seq = 7")
    await sql(db, "DELETE FROM changes")
    await ChangeLog(db).extend()
    status, _, err = await verify(key="")
    assert status == 1
    assert "Change 10 does not fit" in err


async def test_a_forged_checkpoint_is_found(db: Database, verify: Verify):
    await append(db, 10)
    await sign(db)
    await sql(db, "UPDATE change_checkpoints SET signature = decode(repeat('00', 64), 'hex')")
    status, _, err = await verify()
    assert status == 1
    assert "checkpoint at 10" in err


async def test_the_state_finds_a_log_that_was_cut_or_rewritten(db: Database, verify: Verify, tmp_path: Path):
    state = tmp_path / "state.json"
    await append(db, 5)
    assert (await verify("--state", str(state)))[0] == 0
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    remembered = json.loads(state.read_text())
    assert (remembered["seq"], remembered["public_key"]) == (5, public(LOG_KEY))
    await append(db, 5)
    assert (await verify("--state", str(state)))[0] == 0
    assert json.loads(state.read_text())["seq"] == 10
    await sql(db, "DELETE FROM events WHERE seq > 8")
    await sql(db, "DELETE FROM changes WHERE seq > 8")
    status, _, err = await verify("--state", str(state))
    assert (status, "Change 10 does not fit" in err) == (1, True), err
    await append(db, 4)
    status, _, err = await verify("--state", str(state))
    assert (status, "Change 10 does not fit" in err, "rewritten" in err) == (1, True, True), err
    assert json.loads(state.read_text())["seq"] == 10


async def test_a_key_is_followed_if_the_old_one_vouches_for_it(db: Database, verify: Verify, tmp_path: Path):
    state = str(tmp_path / "state.json")
    await append(db)
    assert (await verify("--state", state, key=OLD))[0] == 0
    status, _, err = await verify("--state", state, key=NEW)
    assert status == 1
    assert "no trusted key vouches for" in err
    assert (await verify("--state", state, key=f"{NEW},{OLD}"))[0] == 0
    assert json.loads(Path(state).read_text())["public_key"] == public(NEW)
    assert (await verify("--key", public(OLD), key=f"{NEW},{OLD}"))[0] == 0
    assert (await verify("--key", public(LOG_KEY), key=f"{NEW},{OLD}"))[0] == 1


async def test_a_key_long_after_its_end_is_not_believed(make_registry: MakeRegistry, verify: Verify):
    old = await make_registry(REGISTRY_LOG_KEY=OLD)
    await (await old.user()).publish("demo")
    await old.get("/changes/keys")
    await (await make_registry(REGISTRY_LOG_KEY=f"{NEW},{OLD}")).get("/changes/keys")
    assert (await verify("--url", old.url))[0] == 0
    # The key was replaced more than OVERLAP ago, and this process does not know it.
    await sql(old.app[DB], "UPDATE change_keys SET valid_from = valid_from - interval '8 days'")
    old_alone = await make_registry(REGISTRY_LOG_KEY=OLD)
    listed = (await old_alone.get("/changes/keys")).json["keys"]
    assert listed[0]["valid_to"] is not None
    status, _, err = await verify("--url", old_alone.url)
    assert (status, "ended" in err) == (1, True), err


async def test_a_mirror_verifies_by_address(registry: Registry, verify: Verify, tmp_path: Path):
    ada, db, state = await registry.user(), registry.app[DB], str(tmp_path / "state.json")
    await append(db, 1500)
    last = (await ada.publish("demo"))["seq"]
    status, out, err = await verify("--url", registry.url, "--key", public(LOG_KEY), "--state", state)
    assert (status, out) == (0, f"{last} changes up to {last} fit, and so do 1 checkpoints.\n"), err
    assert (await verify("--url", f"{registry.url}/api/v1/", "--state", state))[0] == 0
    await sql(db, "UPDATE events SET package = 'evil' WHERE seq = 1234")
    status, out, err = await verify("--url", registry.url)
    assert (status, out) == (1, ""), err
    assert "Change 1234 does not fit" in err
    await sql(db, "DELETE FROM events WHERE seq = 1234")
    assert "Change 1235 does not fit" in (await verify("--url", registry.url))[2]
    status, _, err = await verify("--url", registry.url, "--key", public(OLD))
    assert (status, "no trusted key vouches for" in err) == (1, True)


async def test_a_private_registry_is_verified_with_a_token(make_registry: MakeRegistry, verify: Verify, tmp_path: Path):
    ada = await (await make_registry()).user()
    await ada.publish("demo")
    private = await make_registry(REGISTRY_ACCESS="private")
    assert (await verify("--url", private.url))[0] == 2
    file = tmp_path / "token"
    for packages, expected in ((None, 0), (["demo"], 2)):
        headers = await scoped(ada, "read", packages=packages)
        file.write_text(headers["Authorization"].removeprefix("Bearer "))
        status, _, err = await verify("--url", private.url, "--token-file", str(file))
        assert status == expected, err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "http://127.0.0.1:9"],
        ["--url", "packages.example"],
        ["--url", "http://[::1"],
        ["--url", "http://127.0.0.1:9", "--key", "short"],
        ["--url", "http://127.0.0.1:9", "--state", "/dev/null"],
        ["--url", "http://127.0.0.1:9", "--token-file", "/nowhere"],
    ],
)
async def test_what_cannot_be_checked_is_status_2_and_says_why(verify: Verify, arguments: list[str]):
    status, out, err = await verify(*arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1, err


async def test_what_is_no_registry_is_status_2(registry: Registry, verify: Verify):
    status, out, err = await verify("--url", f"{registry.url}/docs/")
    assert (status, out, err.count("\n")) == (2, "", 1)


async def test_a_key_is_printed_or_put_into_a_file_before_the_others(tmp_path: Path):
    status, printed, _ = await run_command(tmp_path, "log", "key")
    assert status == 0
    assert len(base64.b64decode(printed)) == 32
    file = tmp_path / "keys"
    file.touch()
    for count, named in ((1, {"REGISTRY_LOG_KEY_FILE": str(file)}), (2, {}), (3, {})):
        status, out, err = await run_command(tmp_path, "log", "key", *([] if named else [str(file)]), **named)
        keys = file.read_text().strip().split(",")
        assert (status, len(keys)) == (0, count), err
        assert out.strip() == public(keys[0])
        assert keys[0] not in out + err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("no key")
    status, out, err = await run_command(tmp_path, "log", "key", str(file))
    assert (status, out, file.read_text()) == (1, "", "no key")
    assert "no key" not in err
    status, _, err = await run_command(tmp_path, "log", "key", str(tmp_path / "nowhere" / "file"))
    assert status == 1
    assert err.count("\n") == 1


async def test_a_registry_signs_with_the_keys_of_a_file(make_registry: MakeRegistry, tmp_path: Path):
    file = tmp_path / "keys"
    _, out, _ = await run_command(tmp_path, "log", "key", str(file))
    registry = await make_registry(REGISTRY_LOG_KEY="", REGISTRY_LOG_KEY_FILE=str(file))
    [key] = (await registry.get("/changes/keys")).json["keys"]
    assert key["public_key"] == out.strip()
