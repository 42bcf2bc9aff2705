"""Parsing a User-Agent: name, system, kind, and the rule that decided the kind."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.downloads import agents
from registry.downloads.agents import Agent, parse

PIP = {
    "ci": None, "cpu": "x86_64", "distro": {"id": "bookworm", "name": "Debian GNU/Linux", "version": "12"},
    "implementation": {"name": "CPython", "version": "3.11.2"}, "installer": {"name": "pip", "version": "25.0"},
    "python": "3.11.2", "system": {"name": "Linux", "release": "6.1.0"},
}  # fmt: skip
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def pip(**more: object) -> str:
    return f"pip/25.0 {json.dumps({**PIP, **more})}"


def test_pip_names_its_system():
    assert parse(pip()) == Agent("pip", "25.0", "Linux", "6.1.0", "x86_64", "human", "no-ci-marker")
    mac = parse(pip(system={"name": "Darwin", "release": "24.1.0"}, cpu="arm64"))
    assert (mac.system, mac.system_version, mac.device) == ("macOS", "24.1.0", "arm64")


def test_npm_and_similar_clients_name_their_system():
    agent = parse("npm/10.8.2 node/v20.11.1 linux x64 workspaces/false")
    assert agent == Agent("npm", "10.8.2", "Linux", "", "x64", "human", "no-ci-marker")
    assert parse("pnpm/9.1.0 npm/? node/v20.11.1 win32 x64").system == "Windows"


def test_synapse_cli_names_its_system():
    agent = parse("synapse-cli/2.1.0 (Linux 6.8; x86_64)")
    assert agent == Agent("synapse-cli", "2.1.0", "Linux", "6.8", "x86_64", "human", "no-ci-marker")


def test_a_browser_is_a_human():
    assert parse(FIREFOX) == Agent("Firefox", "132.0", "Windows", "10", "", "human", "browser")


@pytest.mark.parametrize(
    ("user_agent", "name", "kind", "rule"),
    [
        (pip(ci=True), "pip", "ci", "ci-marker"),
        ("npm/10.8.2 node/v20.11.1 linux x64 workspaces/false ci/github-actions", "npm", "ci", "ci-marker"),
        ("synapse-cli/2.1.0 (Linux 6.8; x86_64; ci)", "synapse-cli", "ci", "ci-marker"),
        ("curl/8.9.1 (CI=true)", "curl", "ci", "ci-marker"),
        ("GitHub-Actions/2.3", "GitHub-Actions", "ci", "build-name"),
        ("gitlab-runner 17.0.0 (linux/amd64)", "Other", "unknown", "unrecognised"),
        ("gitlab-runner/17.0.0 (linux/amd64)", "gitlab-runner", "ci", "build-name"),
        ("bandersnatch/6.5.0 (cpython 3.12.0-final0, Linux x86_64)", "bandersnatch", "mirror", "mirror-name"),
        ("Nexus/3.70.1-02 (PRO; Linux; 6.1; amd64; 17.0.9)", "Nexus", "mirror", "mirror-name"),
        ("Artifactory/7.90.0 79000900", "Artifactory", "mirror", "mirror-name"),
        ("devpi-server/6.12.0 (py3.11; linux)", "devpi-server", "mirror", "mirror-name"),
        ("Renovate/38.0.0", "Renovate", "bot", "bot-name"),
        ("ExampleBot/1.0 (+https://example.org/bot)", "Other", "bot", "bot-name"),
        (GOOGLEBOT, "Other", "bot", "bot-name"),
        ("Apache-Maven/3.9.9 (Java 17.0.12; Linux 6.1.0)", "Apache-Maven", "unknown", "package-client"),
        ("curl/8.9.1", "curl", "unknown", "http-library"),
        ("Wget/1.24.5", "Wget", "unknown", "http-library"),
        ("python-requests/2.32.3", "python-requests", "unknown", "http-library"),
        ("", "Other", "unknown", "no-user-agent"),
        ("   ", "Other", "unknown", "no-user-agent"),
        ("something-else/1.0", "Other", "unknown", "unrecognised"),
        ("Mozilla", "Other", "unknown", "unrecognised"),
        ("pip/25.0 {broken", "pip", "human", "no-ci-marker"),
        ("pip/25.0 [1]", "pip", "human", "no-ci-marker"),
        ('pip/25.0 {"system": 7, "cpu": {}, "ci": "yes"}', "pip", "human", "no-ci-marker"),
    ],
)
def test_the_user_agent_decides_the_kind(user_agent: str, name: str, kind: str, rule: str):
    agent = parse(user_agent)
    assert (agent.name, agent.kind, agent.rule) == (name, kind, rule)


def test_client_names_ignore_case():
    assert parse("CURL/8.9.1").name == parse("curl/8.9.1").name == "curl"


@given(st.text(max_size=agents.MAX_PARSED))
def test_any_user_agent_is_parsed_within_bounds(text: str):
    agent = parse(text)
    assert agent.kind in agents.KINDS
    assert agent.rule
    known = {*agents.MARKED.values(), *agents.PACKAGE_CLIENTS.values(), *agents.HTTP_LIBRARIES.values()}
    known |= {*agents.MIRRORS.values(), *agents.BUILDS.values(), *agents.BOTS.values(), *agents.BROWSERS, agents.OTHER}
    assert agent.name in known
    assert max(map(len, (agent.version, agent.system_version, agent.device))) <= agents.MAX_WORD


def test_long_user_agents_do_not_hang_the_parser():
    """A regular expression that backtracks too much would hang here."""
    for text in ("a/" + "(" * 2000, "pip/1 " + "{" * 2000, "bot" * 600, "ci/" * 600, "Mozilla/5.0 " + "a" * 2000):
        parse(text)
