"""Parses a User-Agent into the client's name, system and kind.

Kinds: `human` (a person runs it), `ci` (a build), `mirror` (another registry or a cache), `bot` (it reads without
installing) and `unknown`. Names that are in none of the lists become "Other", so the roll-ups stay small whatever
clients send.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any

import orjson
import ua_parser

HUMAN, CI, MIRROR, BOT, UNKNOWN = KINDS = ("human", "ci", "mirror", "bot", "unknown")
OTHER = "Other"
MAX_WORD = 64
CACHED_AGENTS = 4096
# pip sends a long description of its environment.
MAX_PARSED = 2048


@dataclass(frozen=True, slots=True)
class Agent:
    """A client. Unknown fields are "". `rule` is the name of the rule that decided its `kind`."""

    name: str
    version: str
    system: str
    system_version: str
    device: str
    kind: str
    rule: str


def _names(text: str) -> dict[str, str]:
    """Maps the lower case of each name to its usual spelling."""
    return {name.lower(): name for name in text.split()}


# These clients send a marker when they run in a build. Without the marker, a person runs them.
MARKED = _names("pip uv npm pnpm yarn bun synapse-cli")
PACKAGE_CLIENTS = _names("Apache-Maven Gradle poetry pdm Cargo composer Bundler NuGet conda twine")
HTTP_LIBRARIES = _names(
    "curl Wget python-requests python-httpx Python-urllib aiohttp Go-http-client okhttp axios node-fetch undici Java"
)
MIRRORS = _names("bandersnatch devpi devpi-server Nexus Artifactory verdaccio pulp proxpi reposilite synapse-mirror")
BUILDS = _names(
    "GitHub-Actions actions gitlab-runner Jenkins CircleCI Travis Buildkite TeamCity azure-pipelines drone Woodpecker"
)
BOTS = _names("Renovate Dependabot crawler")
BROWSERS = frozenset(("Chrome", "Firefox", "Safari", "Edge", "Opera", "Chrome Mobile", "Mobile Safari"))
_BOT_WORDS = re.compile(r"(?:bot|crawler|spider|scanner|monitor)s?\b", re.IGNORECASE)
_SYSTEMS = {
    "linux": "Linux", "ubuntu": "Linux", "debian": "Linux", "fedora": "Linux", "chrome os": "Linux",
    "darwin": "macOS", "macos": "macOS", "mac os x": "macOS", "win32": "Windows", "windows": "Windows",
    "windows_nt": "Windows", "freebsd": "FreeBSD", "android": "Android", "ios": "iOS",
}  # fmt: skip
_PRODUCT = re.compile(r"(?P<name>[A-Za-z][\w.-]*?)(?: CI)?/(?P<version>\S+)")
_JSON = re.compile(r"\S+ (?P<data>\{.*\})\s*", re.DOTALL)
# npm/10.8.2 node/v20.11.1 linux x64 workspaces/false ci/github-actions
_NODE = re.compile(r"\bnode/\S+ (?P<system>\w+) (?P<device>\w+)")
_CI_TOKEN = re.compile(r"\bci/[\w-]+")
# synapse-cli/2.1.0 (Linux 6.8; x86_64; ci)
_COMMENT = re.compile(r"\S+ \((?P<comment>[^()]*)\)")


@functools.lru_cache(CACHED_AGENTS)
def parse(user_agent: str) -> Agent:
    """Parses a User-Agent of at most MAX_PARSED characters."""
    found = _PRODUCT.match(user_agent)
    if not user_agent.strip():
        return Agent(OTHER, "", "", "", "", UNKNOWN, "no-user-agent")
    if found is None or found["name"] == "Mozilla":
        return _browser(user_agent)
    lower = found["name"].lower()
    name, (kind, rule) = _known(lower), _kind(lower, user_agent)
    version = found["version"][:MAX_WORD]
    return Agent(name, version, *_machine(user_agent), kind, rule)


def _known(lower: str) -> str:
    lists = (MARKED, PACKAGE_CLIENTS, HTTP_LIBRARIES, MIRRORS, BUILDS, BOTS)
    return next((known[lower] for known in lists if lower in known), OTHER)


def _kind(lower: str, user_agent: str) -> tuple[str, str]:
    if lower in MIRRORS:
        return MIRROR, "mirror-name"
    if lower in BOTS or _BOT_WORDS.search(user_agent):
        return BOT, "bot-name"
    if lower in BUILDS:
        return CI, "build-name"
    if _has_ci_marker(user_agent):
        return CI, "ci-marker"
    if lower in MARKED:
        return HUMAN, "no-ci-marker"
    if lower in PACKAGE_CLIENTS:
        return UNKNOWN, "package-client"
    if lower in HTTP_LIBRARIES:
        return UNKNOWN, "http-library"
    return UNKNOWN, "unrecognised"


def _has_ci_marker(user_agent: str) -> bool:
    if _CI_TOKEN.search(user_agent):
        return True
    comment = _COMMENT.match(user_agent)
    if comment is not None:
        return any(part.strip().lower() in ("ci", "ci=true", "ci=1") for part in comment["comment"].split(";"))
    return _details(user_agent).get("ci") is True


def _machine(user_agent: str) -> tuple[str, str, str]:
    """Returns (system, version of the system, device)."""
    details = _details(user_agent)
    if details:
        system = details.get("system")
        about = system if isinstance(system, dict) else {}
        return _system(about.get("name")), _word(about.get("release")), _word(details.get("cpu"))
    node = _NODE.search(user_agent)
    if node is not None:
        return _system(node["system"]), "", _word(node["device"])
    comment = _COMMENT.match(user_agent)
    if comment is None:
        return "", "", ""
    first, _, rest = comment["comment"].partition(";")
    name, _, version = first.strip().partition(" ")
    system = _system(name)
    return (system, _word(version), _word(rest.partition(";")[0])) if system not in ("", OTHER) else ("", "", "")


def _details(user_agent: str) -> dict[str, Any]:
    """The JSON object that pip and similar clients append, or {} if it is missing or incomplete."""
    found = _JSON.fullmatch(user_agent)
    if found is None:
        return {}
    try:
        data = orjson.loads(found["data"])
    except orjson.JSONDecodeError:
        return {}
    return data if isinstance(data, dict) else {}


def _system(name: object) -> str:
    return _SYSTEMS.get(name.lower(), OTHER) if isinstance(name, str) and name.strip() else ""


def _word(text: object) -> str:
    return text.strip()[:MAX_WORD] if isinstance(text, str) else ""


def _browser(user_agent: str) -> Agent:
    """Parses a User-Agent that is not `name/version`, or that begins with Mozilla as those of all browsers do."""
    result = ua_parser.parse(user_agent)
    about, system = result.user_agent, result.os
    if _BOT_WORDS.search(user_agent) or (result.device is not None and result.device.family == "Spider"):
        return Agent(OTHER, "", "", "", "", BOT, "bot-name")
    if about is None or not user_agent.startswith("Mozilla/"):
        return Agent(OTHER, "", "", "", "", UNKNOWN, "unrecognised")
    parts = (system.major, system.minor) if system is not None else ()
    return Agent(
        about.family if about.family in BROWSERS else OTHER,
        ".".join(part for part in (about.major, about.minor) if part)[:MAX_WORD],
        _system(system.family) if system is not None else "",
        ".".join(part for part in parts if part)[:MAX_WORD],
        "",
        HUMAN,
        "browser",
    )
