"""The one-shot that imports the dashboards, against a server that answers as Kibana does."""

import json
import threading
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.deploy.outside import run, words
from tests.deploy.stack import FILES, ROOT, environment, services

OBJECTS = ROOT / "deploy" / "kibana" / "registry.ndjson"
SERVICE = services(*FILES)["kibana-setup"]


class Kibana(ThreadingHTTPServer):
    """Reports itself as unavailable for the first `starting` requests; then accepts imports and answers `outcome`."""

    starting = 0
    outcome: tuple[int, Any] = (200, {"success": True, "successCount": 3})

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.imports: list[tuple[str, Message, bytes]] = []


class Handler(BaseHTTPRequestHandler):
    server: Kibana

    def do_GET(self) -> None:
        self.server.starting -= 1
        if self.server.starting == 1:
            self.answer(503, None)
        else:
            level = "unavailable" if self.server.starting >= 0 else "available"
            self.answer(200, {"status": {"overall": {"level": level}}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.imports.append((self.path, self.headers, body))
        self.answer(*self.server.outcome)

    def answer(self, status: int, answer: Any) -> None:
        body = b"Kibana server is not ready yet" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keeps the access log out of the test's output."""


@pytest.fixture
def kibana() -> Iterator[Kibana]:
    with Kibana() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def set_up(kibana: Kibana, secrets: dict[str, str]) -> tuple[int, str]:
    environ = environment(SERVICE, secrets)
    environ["KIBANA_URL"] = f"http://127.0.0.1:{kibana.server_port}"
    environ["KIBANA_OBJECTS"] = environ["KIBANA_OBJECTS"].replace("/kibana/", f"{OBJECTS.parent}/")
    return await run(words(SERVICE, "command"), environ)


async def test_it_waits_for_kibana_and_imports_the_file_unchanged(kibana, secrets):
    kibana.starting = 3
    status, said = await set_up(kibana, secrets)
    assert (status, said) == (0, "3 objects imported into Kibana\n")
    ((path, headers, body),) = kibana.imports
    assert path == "/api/saved_objects/_import?overwrite=true"
    assert headers["kbn-xsrf"]
    assert headers["Authorization"].startswith("Basic ")
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    (part,) = BytesParser(policy=HTTP).parsebytes(head + body).iter_parts()
    assert part.get_param("name", header="Content-Disposition") == "file"
    assert part.get_filename().endswith(".ndjson")
    assert OBJECTS.read_bytes() in body


async def test_without_security_it_sends_no_password(kibana, secrets):
    environ = environment(services()["kibana-setup"], secrets)
    environ |= {"KIBANA_URL": f"http://127.0.0.1:{kibana.server_port}", "KIBANA_OBJECTS": str(OBJECTS)}
    status, _ = await run(words(services()["kibana-setup"], "command"), environ)
    assert status == 0
    assert "Authorization" not in kibana.imports[0][1]


@pytest.mark.parametrize(
    "outcome",
    [
        (200, {"success": False, "successCount": 1, "errors": [{"id": "x", "error": {"type": "missing_references"}}]}),
        (422, {"message": "belongs to a more recent version of Kibana"}),
        (401, {"message": "Unauthorized"}),
    ],
)
async def test_a_failed_import_ends_with_an_error_text(kibana, secrets, outcome):
    kibana.outcome = outcome
    status, said = await set_up(kibana, secrets)
    assert status == 1
    assert str(outcome[0]) in said
    assert "Traceback" not in said
    assert ("missing_references" in said) == (outcome[0] == 200)
