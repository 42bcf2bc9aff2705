"""`up` lets other commands use its servers and keys."""

import contextlib
import json
from pathlib import Path

from registry.devstack import up
from registry.settings import Settings


def test_commands_beside_up_get_its_addresses_and_keys(tmp_path: Path):
    servers = {"REGISTRY_DB_URL": "postgresql://x@/registry", "REGISTRY_ES_URL": "http://127.0.0.1:9"}
    given = {"REGISTRY_PORT": "8123", "REGISTRY_SEARCH_MODEL": "/model", "REGISTRY_SEARCH_MODEL_SHA256": "0" * 64}
    completed = up._completed(given, servers, tmp_path)
    service, file = Settings.read(completed), tmp_path / "addresses.json"
    with contextlib.ExitStack() as stack:
        up._write_addresses(file, completed, stack)
        command = Settings.read(json.loads(file.read_text("utf-8")))
        assert file.stat().st_mode & 0o077 == 0
    assert not file.exists()
    for part in ("database", "storage"):
        assert getattr(command, part) == getattr(service, part)
    assert command.search == service.search
    assert command.web.port == 8123
    assert command.accounts.secret_keys == service.accounts.secret_keys
    assert command.log.keys == service.log.keys
