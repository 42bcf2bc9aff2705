"""deploy/make-env, which writes the stack's secrets."""

import stat
import subprocess
from pathlib import Path

import pytest

from registry.settings import Settings
from tests.deploy.stack import FILES, ROOT, read_env, references


def make_env(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "deploy" / "make-env", file], capture_output=True, text=True, timeout=30)


def test_every_secret_is_random_and_differs_from_the_others(tmp_path):
    made = []
    for name in ("one", "two"):
        assert make_env(tmp_path / name).returncode == 0
        made.append(list(read_env(tmp_path / name).values()))
    everything = made[0] + made[1]
    assert len(set(everything)) == len(everything)
    assert all(len(value) >= 20 and set(value) <= set("0123456789abcdef") for value in everything)


def test_only_its_owner_may_read_the_file(tmp_path):
    make_env(tmp_path / ".env")
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [".env"]


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_an_existing_file_is_never_replaced(tmp_path, kind):
    file = tmp_path / ".env"
    if kind == "file":
        file.write_text("POSTGRES_PASSWORD=precious\n")
    else:
        file.symlink_to(tmp_path / "nowhere")
    refused = make_env(file)
    assert refused.returncode == 1
    assert "was not changed" in refused.stderr
    assert not (tmp_path / "nowhere").exists()
    if kind == "file":
        assert file.read_text() == "POSTGRES_PASSWORD=precious\n"


def test_it_reports_an_unwritable_folder(tmp_path):
    failed = make_env(tmp_path / "missing folder" / ".env")
    assert failed.returncode != 0
    assert failed.stderr


def test_it_sets_all_required_variables_except_the_certificate_folder(secrets):
    wanted: set[str] = set()
    for file in FILES:
        found = references((ROOT / file).read_text())
        wanted |= {name for name, (rule, _) in found.items() if rule != ":-"}
    # The log of changes need not be signed: a file that an earlier make-env wrote has no key for it.
    assert (wanted - {"SYNAPSE_CERTIFICATES"}) | {"REGISTRY_LOG_KEY"} == set(secrets)


def test_the_signing_key_is_strong_enough_for_production(secrets):
    settings = Settings.read(
        {
            "REGISTRY_ENV": "production",
            "REGISTRY_SECRET_KEY": secrets["REGISTRY_SECRET_KEY"],
            "REGISTRY_LOG_KEY": secrets["REGISTRY_LOG_KEY"],
            "REGISTRY_DB_URL": "postgresql://registry@postgres/registry",
        }
    )
    assert settings.accounts.secret_keys == (secrets["REGISTRY_SECRET_KEY"],)
    assert settings.log.keys == (bytes.fromhex(secrets["REGISTRY_LOG_KEY"]),)


def test_the_stack_knows_the_variables_in_its_comments():
    text = (ROOT / "deploy" / "make-env").read_text()
    suggested = {line[1:].split("=")[0] for line in text.splitlines() if line.startswith("#") and "=" in line}
    suggested = {name for name in suggested if name.isupper()}
    known = {name for file in FILES for name in references((ROOT / file).read_text())}
    assert suggested - {"COMPOSE_FILE", "COMPOSE_PROFILES"} <= known
    assert len(suggested) > 5
