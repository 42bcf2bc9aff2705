"""HTTP requests to JSON servers, with the standard library only."""

import base64
import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

Answer = tuple[int, Any]


def basic(user: str, password: str) -> dict[str, str]:
    """The headers for HTTP basic authentication; empty if `password` is empty."""
    if not password:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def ask(method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
    """(status, JSON) of the response, (status, text) of an error response, or (0, reason) without a valid response."""
    request = urllib.request.Request(url, data=body, headers=dict(headers), method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return response.status, json.loads(response.read() or b"{}")
    except urllib.error.HTTPError as refusal:
        text = refusal.read().decode(errors="replace")
        return refusal.code, text
    except (OSError, http.client.HTTPException, ValueError) as problem:
        return 0, str(problem)


def wait_for(what: str, ready: Callable[[], Any], seconds: float) -> None:
    """Returns when `ready()` is true. Exits with an error message if it is not true after `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            sys.exit(f"{what} was not ready after {seconds:.0f} seconds.")
        time.sleep(1)
