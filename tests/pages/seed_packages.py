"""The packages of the seeded registry: what is published, in which versions, with which files."""

import struct
import zlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

MAIN = "brook-http"
"""The package that has everything: 24 versions, a long README, dependents, a yanked version, provenance."""
MANY = "tide-log"
"""Has 105 versions, so that a list of 100 has a second page."""
DEPRECATED, QUARANTINED, BARE, FOREIGN = "old-parcel", "shady-miner", "tiny-id", "matn-arabi"
ALL_YANKED, PRERELEASE, LONG = (
    "broken-lamp",
    "next-door",
    "a-name-that-goes-on-and-on-" + "and-on-" * 5 + "until-it-ends",
)

MAIN_VERSIONS = tuple(f"{major}.{minor}.0" for major in (0, 1, 2) for minor in range(1, 9))
MANY_VERSIONS = tuple(f"0.{number}.0" for number in range(1, 106))
LATEST = MAIN_VERSIONS[-1]
YANKED, YANK_REASON = "2.6.0", "It dropped the body of a retried POST. Use 2.7.0 or later."

README = """\
# brook-http

A small HTTP client that repeats what may be repeated, waits longer each time, and tells you what it did.
[Retries](#retries) are on by default; see [the change log](CHANGELOG.md) and [the client](src/client.py).

![The logo of brook-http](docs/logo.png)

```python
from brook_http import Client

with Client(retries=3, timeout=5) as http:
    page = http.get("https://example.org/list", params={"page": 2})
    print(page.status, page.json()["items"])  # a list
```

## Retries

Methods that RFC 9110 calls idempotent are repeated, and so is any request with an `Idempotency-Key`.

| Answer | Repeated | Waits |
|---|---|---|
| `429`, `503` | yes | `Retry-After`, otherwise a back-off |
| `500`, `502`, `504` | idempotent methods | a back-off with jitter |
| connection lost | idempotent methods | nothing at first, then a back-off |

> A request that was cancelled is never repeated.

### Limits

1. At most five attempts, ~~ten~~ as of 2.0.
2. At most 30 seconds in all:
   - connecting counts,
   - reading the body does not.

## HTTP/2

The client negotiates HTTP/2 and opens one connection for each host. More at https://brook.example/http2.

## Licence

MIT. See [LICENSE](LICENSE) and [a file that is missing](docs/missing.md).
"""

CLIENT = """\
\"\"\"A client with retries.\"\"\"

import random
import time


class Client:
    \"\"\"Sends requests and repeats those that may be repeated.\"\"\"

    def __init__(self, retries: int = {retries}, timeout: float = 5.0) -> None:
        self.retries = retries
        self.timeout = timeout

    def get(self, url: str, **params: str) -> "Answer":
        for attempt in range(self.retries):
            answer = self._send("GET", url, params)
            if answer.status < 500:
                return answer
            time.sleep(random.uniform(0, 2**attempt))
        return answer
"""

CHANGES = """\
# Changes

## {version}

- Retries wait longer after each attempt.
- The time limit covers connecting.
"""


def png(width: int = 320, height: int = 80) -> bytes:
    """A picture with a gradient."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(
        b"\x00" + bytes(part for x in range(width) for part in (11, 80 + 100 * x // width, 110 + y))
        for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def main_files(version: str) -> dict[str, bytes]:
    """The files of a version of MAIN. Versions differ in some of them."""
    files: dict[str, bytes] = {
        "README.md": README.encode(),
        "CHANGELOG.md": CHANGES.format(version=version).encode(),
        "LICENSE": b"MIT License\n\nCopyright (c) 2026 The authors of brook-http\n",
        "docs/logo.png": png(),
        "docs/diagram.svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>\n',
        "src/__init__.py": b'from .client import Client\n\n__all__ = ["Client"]\n',
        "src/client.py": CLIENT.format(retries=int(version[0]) + int(version[2])).encode(),
        "src/tables.bin": bytes(range(256)) * 4,
        "src/deep/er/and/deeper/still.toml": b'[brook]\nretries = 3\nhosts = ["a", "b"]\n',
    }
    if version == LATEST:
        files["src/big.txt"] = b"A file that is too big to be shown.\n" * 40_000
        files["src/http2.py"] = b"def negotiate(protocols: list[str]) -> str:\n    return protocols[0]\n"
    else:
        files["src/legacy.js"] = b"export const retries = 3;\n"
    return files


@dataclass(frozen=True)
class Package:
    """What is published. `weekly` is about how often it was downloaded in the last week, `age` how old it is.

    `fresh` is the age of its latest version.
    """

    name: str
    description: str
    owner: str = "ada"
    versions: tuple[str, ...] = ("0.9.0", "1.0.0")
    license: str = "MIT"
    keywords: tuple[str, ...] = ()
    dependencies: dict[str, str] = field(default_factory=dict)
    weekly: int = 0
    growth: float = 1.0
    age: timedelta = timedelta(days=300)
    fresh: timedelta = timedelta(days=20)
    more: dict[str, Any] = field(default_factory=dict)

    def files(self, version: str) -> dict[str, bytes]:
        if self.name == MAIN:
            return main_files(version)
        if self.name == BARE:
            return {}
        text = f"# {self.name}\n\n{self.description}\n\n## Use\n\n    synapse-registry download {self.name}\n"
        return {"README.md": text.encode(), "src/main.py": f'VERSION = "{version}"\n'.encode()}


def _dependent(name: str, description: str, keyword: str, **more: Any) -> Package:
    return Package(name, description, keywords=("http", keyword), dependencies={MAIN: "^2.1.0"}, **more)


_HOURS, _DAYS = timedelta(hours=1), timedelta(days=1)
PACKAGES = (
    Package("brook-core", "Sockets, pools and time limits for network clients.", keywords=("network", "sockets"),
            versions=("1.0.0", "1.1.0", "1.2.0", "1.2.1"), weekly=377_400, license="Apache-2.0", fresh=12 * _DAYS),
    Package("backoff-kit", "Waiting times with jitter, limits and deadlines.", owner="lin",
            keywords=("retry", "backoff"), versions=("1.0.0", "2.0.0", "2.0.1"), weekly=91_020, license="BSD-3-Clause",
            fresh=60 * _DAYS),
    Package(MAIN, "An HTTP client with retries, back-off and HTTP/2 that explains what it did.",
            versions=MAIN_VERSIONS, keywords=("http", "client", "retry", "http2"), weekly=48_213, growth=1.02,
            dependencies={"brook-core": "^1.2.0", "backoff-kit": ">=1.0.0 <3.0.0", "not-published-yet": "~0.3.1"},
            age=700 * _DAYS, fresh=3 * _HOURS,
            more={"repository": "https://code.brook.example/brook/brook-http", "homepage": "https://brook.example"}),
    Package(MANY, "Structured logs that can be read again, in order.", versions=MANY_VERSIONS, weekly=5_400,
            keywords=("logs", "json"), license="Apache-2.0", owner="moss"),
    Package("quiet-fetch", "Downloads for flaky networks: caches, resumes, and retries an HTTP client's requests.",
            owner="moss", versions=("0.9.2", "0.9.3"), keywords=("http", "offline"), weekly=6_400, growth=1.12,
            dependencies={MAIN: ">=2.0.0 <3.0.0"}, age=60 * _DAYS, fresh=1 * _DAYS),
    Package("parcel-forms", "Reads and writes multipart forms without holding them in memory.",
            keywords=("http", "forms"), weekly=12_800, fresh=8 * _DAYS, dependencies={MAIN: "^1.0.0"}),
    Package(DEPRECATED, "Multipart forms. Superseded.", keywords=("forms",), weekly=310, age=900 * _DAYS,
            fresh=500 * _DAYS),
    Package(QUARANTINED, "Speeds up everything.", owner="eve", weekly=12, age=5 * _DAYS, fresh=4 * _DAYS),
    Package(BARE, "Short ids.", versions=("1.0.0",), license="", owner="lin", age=2 * _HOURS, fresh=2 * _HOURS),
    Package(FOREIGN, "مكتبة صغيرة لمعالجة النصوص العربية – with some English in it.", owner="moss",
            versions=("1.0.0",), keywords=("نص", "text"), license="LicenseRef-عربي", weekly=44, fresh=2 * _DAYS),
    Package(ALL_YANKED, "A lamp whose only version was withdrawn.", versions=("1.0.0",), owner="lin", weekly=3),
    Package(PRERELEASE, "Has no stable version yet.", versions=("1.0.0-alpha.1", "1.0.0-beta.1"), owner="lin",
            keywords=("preview",), weekly=90, age=10 * _DAYS, fresh=9 * _HOURS),
    Package(LONG, "A description of five hundred characters. " * 11 + "It ends here.",
            keywords=tuple(f"a-rather-long-keyword-{number}" for number in range(12)),
            versions=("1.0.0-rc.1+build.20261128",), weekly=7, age=9 * _DAYS, fresh=7 * _DAYS),
    _dependent("weather-line", "The weather of today in one line of text.", "weather", owner="lin", weekly=820),
    _dependent("mirror-check", "Compares the files of two servers over HTTP.", "mirror", weekly=2_210, growth=1.06),
    _dependent("feed-reader", "Reads Atom and RSS feeds and remembers what was new.", "feeds", owner="moss",
               weekly=9_700),
    _dependent("price-watch", "Watches prices and tells when they fall.", "prices", weekly=150, growth=1.2,
               age=30 * _DAYS, fresh=2 * _DAYS),
    _dependent("api-probe", "Calls an API again and again and draws its latency.", "monitoring", weekly=3_900),
    _dependent("link-rot", "Finds dead links in documents.", "links", owner="lin", weekly=640),
    Package("colour-names", "Names for colours, and the nearest name of any colour.", keywords=("colour",),
            owner="moss", weekly=23_400, license="ISC"),
    Package("ledger-lite", "Double-entry accounting in plain text files.", keywords=("accounting",), weekly=1_750,
            license="AGPL-3.0-only", owner="moss"),
)  # fmt: skip
