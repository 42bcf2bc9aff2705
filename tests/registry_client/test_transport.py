"""HTTP: tokens stay with their registry, answers are bounded, and failures are retried."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from registry.client.api import MAX_ANSWER, Api
from registry.client.failures import ClientError, NotAllowed, NotFound, TryLater, WrongUsage
from registry.client.transport import LONGEST_PAUSE, PAUSES, Request, Transport, read_bounded
from tests.registry_client.conftest import MakeStandIn
from tests.registry_client.stand_in import Answer, Received, StandIn, error

TOKEN = "secret-token"


def redirecting(status: int, target: Callable[[], str]):
    def answer(request: Received) -> Answer:
        if request.path.endswith("/target"):
            return Answer(body={"found": True})
        return Answer(status, headers={"Location": target()})

    return answer


class Recorder:
    """A Transport whose pauses are only written down."""

    def __init__(self, **options: bool) -> None:
        self.pauses: list[float] = []
        self.notes: list[str] = []
        self.transport = Transport("test", note=self.notes.append, sleep=self.pauses.append, **options)

    def api(self, url: str) -> Api:
        return Api(self.transport, url, TOKEN)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_registry_is_followed(status: int, stand_in: MakeStandIn):
    server = stand_in(redirecting(status, lambda: "/api/v1/target"))
    assert Recorder().api(server.url).get("/start") == {"found": True}
    assert [request.headers["Authorization"] for request in server.received] == [f"Bearer {TOKEN}"] * 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_token_goes_to_another_origin(method: str, status: int, stand_in: MakeStandIn):
    thief = stand_in(lambda _: Answer(body={}))
    server = stand_in(redirecting(status, lambda: f"{thief.url}/target"))
    api = Recorder().api(server.url)
    with pytest.raises(ClientError, match="Your token is not sent there"):
        api.get("/start") if method == "GET" else api.call("POST", "/start", {"password": "secret"})
    assert thief.received == []


def test_a_tarball_may_come_from_elsewhere_but_without_the_token(stand_in: MakeStandIn):
    storage = stand_in(lambda _: Answer(body=b"bytes"))
    back = stand_in(redirecting(302, lambda: f"{storage.url}/target"))
    server = stand_in(redirecting(302, lambda: f"{back.url}/start"))
    api = Recorder().api(server.url)
    request = api.request("GET", "/tarball", headers={"Range": "bytes=3-"}, elsewhere=True)
    assert api.send(request, lambda response: read_bounded(response, 100)) == b"bytes"
    assert "Authorization" in server.received[0].headers
    for other in (back, storage):
        [request] = other.received
        assert "Authorization" not in request.headers
        assert request.headers["Range"] == "bytes=3-"


def test_a_token_that_was_dropped_does_not_come_back(stand_in: MakeStandIn):
    detour = stand_in(redirecting(302, lambda: f"{server.url}/target"))
    server = stand_in(redirecting(302, lambda: f"{detour.url}/start"))
    api = Recorder().api(server.url)
    api.send(api.request("GET", "/tarball", elsewhere=True), lambda response: read_bounded(response, 100))
    assert [("Authorization" in request.headers) for request in server.received] == [True, False]


def test_a_redirect_to_unencrypted_http_is_refused(stand_in: MakeStandIn):
    server = stand_in(redirecting(302, lambda: "http://registry.example.com/target"))
    api = Recorder().api(server.url)
    with pytest.raises(WrongUsage, match="not encrypted"):
        api.send(api.request("GET", "/tarball", elsewhere=True), lambda response: None)


def test_a_change_is_repeated_after_307_and_308_only(stand_in: MakeStandIn):
    for status in (307, 308):
        server = stand_in(redirecting(status, lambda: "/api/v1/target"))
        assert Recorder().api(server.url).call("PATCH", "/start", {"yanked": True}) == {"found": True}
        assert [(request.method, request.json) for request in server.received] == [("PATCH", {"yanked": True})] * 2
    server = stand_in(redirecting(301, lambda: "/api/v1/target"))
    with pytest.raises(ClientError, match="redirect 301"):
        Recorder().api(server.url).call("PATCH", "/start", {})


def test_redirects_end(stand_in: MakeStandIn):
    server = stand_in(lambda request: Answer(302, headers={"Location": request.path + "x"}))
    with pytest.raises(ClientError, match="more than 3 times"):
        Recorder().api(server.url).get("/start")
    assert len(server.received) == 4


def test_an_answer_may_not_be_endless(stand_in: MakeStandIn):
    server = stand_in(lambda _: Answer(body=b"[" + b" " * MAX_ANSWER + b"]"))
    with pytest.raises(ClientError, match="larger than"):
        Recorder().api(server.url).get("/start")
    server = stand_in(lambda _: Answer(500, body=b"x" * (2 << 20)))
    with pytest.raises(ClientError, match="larger than"):
        Recorder().api(server.url).get("/start")


def test_an_answer_that_is_no_registry_is_explained(stand_in: MakeStandIn):
    server = stand_in(lambda _: Answer(body=b"<html>Welcome</html>"))
    with pytest.raises(ClientError, match="Is this the address of a registry"):
        Recorder().api(server.url).get("/start")
    server = stand_in(lambda _: Answer(500, body=b"<html>Oops</html>"))
    with pytest.raises(ClientError, match="status 500"):
        Recorder().api(server.url).get("/start")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, ClientError), (401, NotAllowed), (403, NotAllowed), (404, NotFound), (409, ClientError), (500, ClientError)],
)
def test_each_error_of_the_registry_is_a_failure(status: int, kind: type[ClientError], stand_in: MakeStandIn):
    errors = [{"field": "name", "message": "is bad"}, {"field": 7}, "x"]
    server = stand_in(lambda _: error(status, "some_code", "Some text.", errors=errors))
    with pytest.raises(ClientError) as failed:
        Recorder().api(server.url).get("/start")
    assert type(failed.value) is kind
    assert (failed.value.code, failed.value.status, str(failed.value)) == ("some_code", status, "Some text.")
    assert failed.value.errors == [{"field": "name", "message": "is bad"}]
    assert len(server.received) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_reading_is_retried(status: int, stand_in: MakeStandIn):
    left = [error(status, "later", "Try later.")] * 2
    server = stand_in(lambda _: left.pop() if left else Answer(body={"found": True}))
    recorder = Recorder()
    assert recorder.api(server.url).get("/start") == {"found": True}
    assert [0 < pause <= most for pause, most in zip(recorder.pauses, PAUSES, strict=False)] == [True, True]
    assert "Try later. Trying again in" in recorder.notes[0]


def test_after_five_attempts_it_is_over(stand_in: MakeStandIn):
    server = stand_in(lambda _: error(503, "unavailable", "Away."))
    with pytest.raises(TryLater):
        Recorder().api(server.url).get("/start")
    assert len(server.received) == 5


def test_a_change_is_made_once(stand_in: MakeStandIn):
    server = stand_in(lambda _: error(503, "unavailable", "Away."))
    with pytest.raises(TryLater):
        Recorder().api(server.url).call("POST", "/start", {})
    assert len(server.received) == 1


def test_the_server_may_say_how_long_to_wait(stand_in: MakeStandIn):
    left = [error(429, "rate_limited", "Slow down.", {"Retry-After": "7"})]
    server = stand_in(lambda _: left.pop() if left else Answer(body={}))
    recorder = Recorder()
    recorder.api(server.url).get("/start")
    assert recorder.pauses == [7]


def test_nobody_waits_for_an_hour(stand_in: MakeStandIn):
    server = stand_in(lambda _: error(429, "rate_limited", "Slow down.", {"Retry-After": str(LONGEST_PAUSE + 1)[:2]}))
    recorder = Recorder()
    with pytest.raises(TryLater) as failed:
        recorder.api(server.url).get("/start")
    assert (failed.value.retry_after, recorder.pauses, len(server.received)) == (61, [], 1)


def test_a_connection_that_breaks_off_is_retried(stand_in: MakeStandIn):
    left = [Answer(body=b'{"found":', length=100)]
    server = stand_in(lambda _: left.pop() if left else Answer(body={"found": True}))
    assert Recorder().api(server.url).get("/start") == {"found": True}


def test_a_registry_that_is_away_is_named():
    with pytest.raises(TryLater, match=r"http://127\.0\.0\.1:9 can't be reached: it takes no connections"):
        Recorder().api("http://127.0.0.1:9").get("/start")


def test_a_proxy_of_the_environment_is_used_but_not_for_this_computer(
    stand_in: MakeStandIn, monkeypatch: pytest.MonkeyPatch
):
    proxy = stand_in(lambda _: Answer(body={"from": "proxy"}))
    server = stand_in(lambda _: Answer(body={"from": "server"}))
    monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//user:p%40ss@"))
    assert Recorder().api(server.url).get("/start") == {"from": "server"}
    assert Recorder(allow_http=True).api("http://registry.example.com").get("/start") == {"from": "proxy"}
    [request] = proxy.received
    assert request.headers["Proxy-Authorization"] == "Basic dXNlcjpwQHNz"
    monkeypatch.setenv("no_proxy", "registry.example.com")
    with pytest.raises(TryLater, match="resolved"):
        Recorder(allow_http=True).api("http://registry.example.com").get("/start")


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("days", "knows_ca", "advice"),
    [((-1, 1), True, ""), ((-1, 1), False, "SSL_CERT_FILE"), ((-9, -1), True, "clock"), ((1, 9), True, "clock")],
)
def test_certificates_are_verified(
    days: tuple[int, int], knows_ca: bool, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    authority, other = trustme.CA(), trustme.CA()
    begin, end = (NOW + timedelta(days=day) for day in days)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", not_before=begin, not_after=end).configure_cert(context)
    (authority if knows_ca else other).cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with StandIn(lambda _: Answer(body=b"secret"), context).running() as server:
        request = Request("GET", server.url)
        if not advice:
            assert Transport("test").send(request, lambda response: response.read()) == b"secret"
            return
        with pytest.raises(ClientError, match=advice):
            Transport("test").send(request, lambda response: response.read())
        assert server.received == []
