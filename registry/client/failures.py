"""The failures of the client. Each has the exit status of the command, and a text that says what to do."""

from collections.abc import Mapping, Sequence
from typing import Any

from registry.errors import FieldError

FAILED, WRONG_USAGE, NOT_ALLOWED, NOT_FOUND, TRY_LATER = 1, 2, 3, 4, 5
INTERRUPTED = 130  # what a shell makes of SIGINT

EXIT_STATUSES = """\
exit status:
  0  done
  1  refused or failed: the text says why
  2  the command line is wrong
  3  you are not signed in, or may not do this
  4  there is no such package, version, user or token
  5  try again later: no connection, too many requests, or the time of --wait is up
  130  interrupted by Ctrl-C
"""


class ClientError(Exception):
    """A failure. `code` and `status` are those of the registry's answer, `body` is the answer's JSON."""

    exit_status = FAILED

    def __init__(
        self,
        text: str,
        *,
        code: str = "failed",
        status: int | None = None,
        errors: Sequence[FieldError] = (),
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.errors = list(errors)
        self.body = dict(body or {})


class WrongUsage(ClientError):
    exit_status = WRONG_USAGE


class NotAllowed(ClientError):
    exit_status = NOT_ALLOWED


class NotFound(ClientError):
    exit_status = NOT_FOUND


class TryLater(ClientError):
    """A failure that may be gone at the next attempt. `retry_after` is in seconds; None if the registry names none."""

    exit_status = TRY_LATER

    def __init__(self, text: str, *, retry_after: float | None = None, **more: Any) -> None:
        super().__init__(text, **more)
        self.retry_after = retry_after
