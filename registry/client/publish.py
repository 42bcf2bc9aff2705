"""publish: a dry run, the upload, and the wait until search has it."""

import argparse
import io
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from registry.client import trusted
from registry.client.address import api_path
from registry.client.api import Api, read_json
from registry.client.client import Client
from registry.client.failures import NotAllowed, TryLater, WrongUsage
from registry.client.output import Bar, size
from registry.client.pack import Tarball, inspected, packed, show_warnings

# The registry reads and checks the whole tarball before it answers.
ANSWER_SECONDS = 300.0
FOUND_SECONDS = 60.0
# One request waits this long, because proxies end requests that wait for longer than a minute.
WAIT_SECONDS = 20
NOT_REACHED = "not_reached"


def publish(client: Client, options: argparse.Namespace) -> None:
    with _tarball(Path(options.source)) as tarball:
        api = client.api_with(_token(client, tarball.name))
        answer = _upload(client, api, tarball, dry_run=True)
        show_warnings(client.out, answer["warnings"])
        if not options.dry_run:
            answer = _upload(client, api, tarball, dry_run=False)
    what = f"{tarball.name} {tarball.version} ({size(tarball.size)}, SHA-256 {tarball.sha256})"
    if options.dry_run:
        client.out.result(answer, f"{what} can be published to {client.url}.")
        return
    if options.wait:
        client.out.note(f"Published {tarball.name} {tarball.version}. Waiting until search finds it.")
        wait_until_found(api, tarball)
        answer["found"] = True
    client.out.result(answer, f"Published {what} to {client.url}.")


@contextmanager
def _tarball(source: Path) -> Iterator[Tarball]:
    if source.is_dir():
        with packed(source) as tarball:
            yield tarball
    elif source.is_file():
        yield inspected(source)
    else:
        raise WrongUsage(f"There is no folder or tarball {source}.")


def _token(client: Client, package: str) -> str:
    """The user's token if there is one; in a CI job otherwise one of trusted publishing."""
    if not client.token and trusted.has_identity():
        return trusted.exchange(client.api, package)
    client.require_token()
    return client.token


def _upload(client: Client, api: Api, tarball: Tarball, *, dry_run: bool) -> Any:
    """The registry's answer. A repeated attempt has the same Idempotency-Key, so it can't publish twice."""
    headers = {
        "Content-Type": "application/gzip",
        "Content-Length": str(tarball.size),
        "X-Checksum-SHA256": tarball.sha256,
    }
    path = api_path("packages", tarball.name, tarball.version)
    if dry_run:
        path += "?dry_run=true"
    else:
        headers["Idempotency-Key"] = secrets.token_hex(16)
    label = "Checking" if dry_run else "Publishing"

    def attempt() -> Any:
        with client.out.progress(label, tarball.size) as bar, _CountedFile(tarball.path, bar) as file:
            request = api.request("PUT", path, headers=headers, content=file.from_start, seconds=ANSWER_SECONDS)
            return api.send(request, read_json)

    return api.transport.retry(attempt)


class _CountedFile(io.FileIO):
    """A file that tells a progress bar what is read from it."""

    def __init__(self, path: Path, bar: Bar) -> None:
        super().__init__(path)
        self._bar = bar

    def from_start(self) -> Self:
        self.seek(0)
        return self

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        self._bar.update(len(block))
        return block


def wait_until_found(api: Api, tarball: Tarball, seconds: float = FOUND_SECONDS) -> None:
    """Returns when searches find the published version. Raises TryLater after `seconds`."""
    deadline = time.monotonic() + seconds
    while not api.transport.retry(lambda: _is_found(api, tarball)):
        if time.monotonic() > deadline:
            raise TryLater(
                f"{tarball.name} {tarball.version} is published, but search does not find it after {seconds:.0f} s.",
                code="not_found_yet",
            )


def _is_found(api: Api, tarball: Tarball) -> bool:
    """Whether searches find the version. The registry answers when they do, or after WAIT_SECONDS."""
    path = api_path("packages", tarball.name, tarball.version, "wait")
    request = api.request("GET", f"{path}?state=indexed&timeout={WAIT_SECONDS}")
    try:
        api.send(request, read_json)
    except NotAllowed as refused:
        raise NotAllowed(
            f"{tarball.name} {tarball.version} is published. --wait is refused: {refused}",
            code=refused.code, status=refused.status, body=refused.body,
        ) from refused  # fmt: skip
    except TryLater as failure:
        if failure.code != NOT_REACHED:
            raise
        return False
    return True
