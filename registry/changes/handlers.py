"""HTTP handlers of the log of changes."""

from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web
from typing_extensions import TypedDict

from registry.accounts.authenticate import bearer_token
from registry.accounts.requests import visible_packages
from registry.changes.access import Access
from registry.changes.chain import Change
from registry.changes.checkpoints import Checkpoint, Checkpoints, ListedKey
from registry.changes.feed import Entry, Feed, Listener
from registry.changes.log import Page
from registry.errors import FieldError, Forbidden, InvalidInput, NotConfigured, Unauthorized
from registry.web.answers import NO_STORE, send_headers
from registry.web.context import CONTEXT
from registry.web.parsing import MAX_DIGITS, TOO_LARGE, parse_number
from registry.web.responses import json_response, metadata_response
from registry.web.route import READS, Route, group, header, query

FEED = web.AppKey("changes_feed", Feed)
ACCESS = web.AppKey("changes_access", Access)
CHECKPOINTS = web.AppKey("checkpoints", Checkpoints)

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
MAX_WAIT = 60
# How often a request that waits looks whether its client is still there.
LOOK_SECONDS = 5.0
COMMENT = b": waiting\n\n"
# Changes that a stream sends at once, so that a slow client is noticed early.
SENT_AT_ONCE = 100


class ChangePage(TypedDict):
    """Ascending. `last_seq` is the seq of the last change in the log. Continue with `since` = `next`."""

    changes: list[Change]
    last_seq: int
    next: int


class LogKeys(TypedDict):
    keys: list[ListedKey]


async def list_changes(request: web.Request) -> web.StreamResponse:
    """The changes after `since`, ascending and without gaps. With `wait`, the request is held until there is a change.
    `hash` chains each change to the one before.
    """
    since, limit, seconds = _parameters(request)
    packages = visible_packages(request)
    page = await request.app[FEED].log.read(since, limit, packages)
    if not page.changes and seconds:
        page = await _wait(request, page, packages, limit, seconds)
    found = page.changes
    answer: ChangePage = {
        "changes": found, "last_seq": page.last_seq, "next": found[-1]["seq"] if found else since,
    }  # fmt: skip
    return metadata_response(request, answer)


async def _wait(request: web.Request, seen: Page, packages: frozenset[str] | None, limit: int, seconds: int) -> Page:
    """The first changes after the empty page `seen`, within `seconds`."""
    feed = request.app[FEED]
    deadline = feed.clock() + seconds
    with feed.listening(seen.end, packages) as listener:
        entries: list[Entry] = []
        while not entries and not feed.is_closed and (left := deadline - feed.clock()) > 0:
            entries = await listener.next(min(left, LOOK_SECONDS))
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("The client has left.")
    changes = [entry.change for entry in entries]
    return Page(changes[:limit], changes[-1]["seq"] if changes else seen.last_seq, seen.end)


def _parameters(request: web.Request) -> tuple[int, int, int]:
    """(since, limit, wait). Raises InvalidInput with every wrong one."""
    errors: list[FieldError] = []
    since = _seq(request.query, "since", errors)
    limit = parse_number(request.query, "limit", errors, DEFAULT_LIMIT, low=1)
    seconds = parse_number(request.query, "wait", errors)
    if limit > MAX_LIMIT:
        errors.append({"field": "limit", "message": f"must be at most {MAX_LIMIT}"})
    if seconds > MAX_WAIT:
        errors.append({"field": "wait", "message": f"must be at most {MAX_WAIT} seconds"})
    if errors:
        raise InvalidInput.of(errors)
    return since, limit, seconds


async def stream_changes(request: web.Request) -> web.StreamResponse:
    """Sends each change as a server-sent event whose id is the change's seq. A client that reconnects with
    `Last-Event-ID` misses nothing.
    """
    feed = request.app[FEED]
    position = _last_event_id(request)
    if position is None:
        position = (await feed.log.head()).seq
    response = web.StreamResponse(
        headers={
            hdrs.CONTENT_TYPE: "text/event-stream",
            hdrs.CACHE_CONTROL: NO_STORE,
            "X-Accel-Buffering": "no",  # nginx must pass each event on at once
        }
    )
    if request.method == hdrs.METH_HEAD:
        return response

    def cut_off() -> None:
        if request.transport is not None:
            request.transport.abort()

    with feed.listening(position, visible_packages(request), cut_off) as listener:
        await send_headers(request, response)
        await response.write(COMMENT)
        while await _is_allowed(request, listener) and not feed.is_closed:
            await _send(response, await listener.next(feed.comment_seconds))
    return response


async def _send(response: web.StreamResponse, entries: list[Entry]) -> None:
    for start in range(0, len(entries), SENT_AT_ONCE):
        await response.write(b"".join(entry.frame for entry in entries[start : start + SENT_AT_ONCE]))
    if not entries:
        await response.write(COMMENT)


async def _is_allowed(request: web.Request, listener: Listener) -> bool:
    """Whether the client may go on reading. A stranger of a public registry always may."""
    if request[CONTEXT].principal is None:
        return True
    try:
        token = bearer_token(request.headers.get(hdrs.AUTHORIZATION)) or ""
        listener.packages = await request.app[ACCESS].packages(token)
    except (Unauthorized, Forbidden):
        return False
    return True


def _seq(given: Mapping[str, str], name: str, errors: list[FieldError]) -> int:
    """The seq `name`, 0 without one. Adds to `errors` what is wrong."""
    seq = parse_number(given, name, errors)
    if seq == TOO_LARGE:
        errors.append({"field": name, "message": f"must have at most {MAX_DIGITS} digits"})
    return seq


def _last_event_id(request: web.Request) -> int | None:
    """The seq in the header Last-Event-ID, None without it. Raises InvalidInput."""
    errors: list[FieldError] = []
    name = "Last-Event-ID"
    found = _seq(request.headers, name, errors)
    if errors:
        raise InvalidInput.of(errors)
    return found if name in request.headers else None


async def get_checkpoint(request: web.Request) -> web.StreamResponse:
    """The newest seq and hash of the log, signed with Ed25519. It proves that the log was not rewritten."""
    return json_response(await request.app[CHECKPOINTS].sign())


async def list_log_keys(request: web.Request) -> web.StreamResponse:
    """The public keys that sign checkpoints, with the time in which each is valid."""
    keys: LogKeys = {"keys": await request.app[CHECKPOINTS].keys()}
    return metadata_response(request, keys)


def _integer(low: int, high: int | None, default: int) -> dict[str, Any]:
    most = {} if high is None else {"maximum": high}
    return {"type": "integer", "minimum": low, **most, "default": default}


CHANGES = "/api/v1/changes"
ROUTES = group(
    "Changes",
    Route("GET", CHANGES, list_changes, "Changes of packages, in the order in which they happened", limit=READS,
          parameters=(
              query("since", _integer(0, None, 0), "Only changes after this seq"),
              query("limit", _integer(1, MAX_LIMIT, DEFAULT_LIMIT), "Most changes in the answer"),
              query("wait", _integer(0, MAX_WAIT, 0), "Seconds to wait if there is no change yet"),
          ), answers={200: ChangePage, 304: None}),
    Route("GET", f"{CHANGES}/stream", stream_changes, "Changes as server-sent events, as soon as they happen",
          limit=READS, parameters=(
              header("Last-Event-ID", {"type": "integer", "minimum": 0},
                     "The seq after which the stream starts; without it, it starts with the next change"),
          ), answers={200: "text/event-stream"}),
    Route("GET", f"{CHANGES}/checkpoint", get_checkpoint, "The signed end of the log of changes", limit=READS,
          answers={200: Checkpoint}, errors=(NotConfigured,)),
    Route("GET", f"{CHANGES}/keys", list_log_keys, "The public keys that sign checkpoints", limit=READS,
          answers={200: LogKeys, 304: None}),
)  # fmt: skip
