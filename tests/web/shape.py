"""Checks that an error has the documented shape."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from tests.client import Answer

MEMBERS = ("type", "title", "detail", "code", "error", "request_id")
# Errors whose answers have members of their own.
MORE = {"oidc_refused": ("reason", "claims", "differs", "hint")}


def check_error(answer: Answer, *statuses: int, more: Collection[str] = ()) -> None:
    """Fails unless `answer` is an error with one of `statuses` and exactly the documented members and `more`."""
    assert answer.status in statuses, (answer.status, answer.body)
    assert answer.headers["Content-Type"] in ("application/json; charset=utf-8", "application/problem+json")
    problem = answer.json
    for member in MEMBERS:
        assert isinstance(problem[member], str), member
        assert problem[member], member
    assert problem["status"] == answer.status
    assert problem["error"] == problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert set(problem) - {*MEMBERS, "status", "errors", *MORE.get(problem["code"], ())} == set(more)
    for wrong in problem.get("errors", []):
        assert set(wrong) == {"field", "message"}
        assert wrong["message"]
    if answer.status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    if answer.status in (429, 503):
        assert int(answer.headers["Retry-After"]) > 0
    if answer.status == 405:
        assert answer.headers["Allow"]


@contextmanager
def case(name: object) -> Iterator[None]:
    """Adds `name` to a failure within the block. Many cases share one service, since each needs a database."""
    try:
        yield
    except (AssertionError, OSError, EOFError, TimeoutError) as failure:
        failure.add_note(f"case: {name!r}")
        raise
