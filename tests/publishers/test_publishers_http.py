"""Trusted publishers over HTTP: adding, using and removing them, and the provenance of what they publish."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.accounts.test_access_http import token_of
from tests.client import Answer, Registry, User
from tests.conftest import MakeRegistry
from tests.contracts.test_access import scoped
from tests.publishers.conftest import settings_of
from tests.publishers.issuer import AUDIENCE, Issuer, github, gitlab, running_issuer
from tests.publishers.test_forgeries import TRUSTED, exchange
from tests.web.shape import case, check_error


async def trust(user: User, package: str = "demo", body: Any = TRUSTED) -> Any:
    """Adds a publisher to a package; fails unless it is made."""
    made = await user.call("POST", f"/packages/{package}/publishers", json=body)
    assert made.status == 201, made.body
    return made.json


async def job(registry: Registry, issuer: Issuer, package: str = "demo", claims: Any = None) -> User:
    """A CI job with its exchanged token."""
    answer = await exchange(registry, issuer.token(claims or github()), package)
    assert answer.status == 200, answer.body
    assert set(answer.json) == {"token", "expires_at"}
    assert answer.headers["Cache-Control"] == "no-store"
    return User(registry, 0, "ci", answer.json["token"])


async def demo(registry: Registry) -> User:
    """A user who has published the package demo."""
    ada = await registry.user("ada")
    await ada.publish("demo")
    return ada


async def test_a_job_publishes_its_package_and_nothing_else(trusting: Registry, issuer: Issuer):
    ada = await demo(trusting)
    await ada.publish("other")
    made = await trust(ada)
    assert TRUSTED.items() <= made.items()
    assert made["issuer"] == issuer.url
    ci = await job(trusting, issuer)
    assert (await ci.put("demo", "2.0.0")).status == 201
    for refused in (
        await ci.put("other", "2.0.0"),
        await ci.call("PATCH", "/packages/demo/2.0.0", json={"yanked": True}),
        await ci.call("DELETE", "/packages/demo/2.0.0"),
        await ci.call("GET", "/packages/demo/publishers"),
        await ci.call("POST", "/packages/demo/publishers", json=TRUSTED),
        await ci.call("POST", "/auth/tokens", json={"name": "more", "scopes": ["publish"]}),
    ):
        check_error(refused, 403)
    assert (await ada.call("GET", "/auth/tokens")).json["tokens"] == []


async def test_provenance_is_shown_and_audited_and_no_manifest_claims_it(trusting: Registry, issuer: Issuer):
    ada = await demo(trusting)
    made = await trust(ada)
    ci = await job(trusting, issuer)
    assert (await ci.put("demo", "2.0.0", provenance={"kind": "github", "repository": "eve/repo"})).status == 201
    wanted = {
        "kind": "github",
        "issuer": issuer.url,
        "repository": "org/repo",
        "commit": "a" * 40,
        "ref": "refs/tags/v1.0.0",
        "workflow": "release.yml",
        "run_url": f"{issuer.url}/org/repo/actions/runs/4242",
    }
    assert (await trusting.get("/packages/demo/2.0.0")).json["provenance"] == wanted
    assert (await trusting.get("/packages/demo/latest")).json["provenance"] == wanted
    assert (await ada.put("demo", "3.0.0", provenance=wanted)).status == 201
    assert (await trusting.get("/packages/demo/3.0.0")).json["provenance"] is None
    entries = (await ada.call("GET", "/packages/demo/audit")).json["entries"]
    actions = {entry["action"]: entry for entry in entries}
    assert {"publisher.create", "token.exchange"} <= set(actions)
    [published] = [entry for entry in entries if entry["version"] == "2.0.0"]
    assert published["action"] == "version.publish"
    assert published["publisher"] == {"id": made["id"], **wanted}
    assert published["token"]["name"] == "trusted publisher"


async def test_a_removed_publisher_ends_its_tokens(trusting: Registry, issuer: Issuer):
    ada = await demo(trusting)
    made = await trust(ada)
    ci = await job(trusting, issuer)
    manager = User(trusting, 0, "ada", (await scoped(ada, "manage"))["Authorization"].split()[1])
    [listed] = (await manager.call("GET", "/packages/demo/publishers")).json["publishers"]
    assert (listed["id"], listed["repository_id"], listed["repository_owner_id"]) == (made["id"], "1001", "77")
    assert (await manager.call("DELETE", f"/packages/demo/publishers/{made['id']}")).status == 204
    check_error(await ci.put("demo", "2.0.0"), 401)
    assert (await exchange(trusting, issuer.token(github()))).json["reason"] == "claims"
    check_error(await manager.call("DELETE", f"/packages/demo/publishers/{made['id']}"), 404)


async def test_only_a_signed_in_owner_adds_a_publisher(trusting: Registry):
    ada, bob, root = await demo(trusting), await trusting.user("bob"), await trusting.user("root", admin=True)
    for headers in (await scoped(ada, "manage", "publish"), bob.headers, root.headers):
        check_error(await trusting.call("POST", "/packages/demo/publishers", json=TRUSTED, headers=headers), 403)
    check_error(await trusting.call("POST", "/packages/demo/publishers", json=TRUSTED), 401)
    check_error(await bob.call("GET", "/packages/demo/publishers"), 403)
    check_error(await ada.call("POST", "/packages/unborn/publishers", json=TRUSTED), 404)
    await trust(ada)
    check_error(await ada.call("POST", "/packages/demo/publishers", json=TRUSTED), 409)


async def test_a_publisher_that_would_demand_too_little_is_refused(trusting: Registry, issuer: Issuer):
    ada = await demo(trusting)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("kind", {"kind": "jenkins"}),
        ("kind", {}),
        ("repository", {**TRUSTED, "repository": "org"}),
        ("repository", {**TRUSTED, "repository": " org/repo"}),
        ("repository", {"kind": "github", "workflow": "release.yml"}),
        ("workflow", {**TRUSTED, "workflow": ".github/workflows/release.yml"}),
        ("workflow", {**TRUSTED, "workflow": "release.yml "}),
        ("environment", {**TRUSTED, "environment": " production"}),
        ("environment", {**TRUSTED, "environment": ""}),
        ("enviroment", {**TRUSTED, "enviroment": "production"}),
        ("project", {"kind": "gitlab", "project": "project"}),
        ("ref", {"kind": "gitlab", "project": "group/project", "ref": "main\t"}),
        ("issuer", {"kind": "oidc", "claims": {"sub": "x"}}),
        ("issuer", {"kind": "oidc", "issuer": "https://eve.example", "claims": {"sub": "x"}}),
        ("issuer", {"kind": "oidc", "issuer": "https://gitlab.com", "claims": {"sub": "x"}}),
        ("issuer", {**TRUSTED, "issuer": "https://gitlab.com"}),
        ("claims", {"kind": "oidc", "issuer": issuer.url}),
        ("claims", {"kind": "oidc", "issuer": issuer.url, "claims": {}}),
        ("claims", {"kind": "oidc", "issuer": issuer.url, "claims": {"aud": AUDIENCE}}),
        ("claims.sub", {"kind": "oidc", "issuer": issuer.url, "claims": {"sub": " x"}}),
        ("claims.sub", {"kind": "oidc", "issuer": issuer.url, "claims": {"sub": 7}}),
    ]
    for field, body in wrong:
        with case(body):
            answer = await ada.call("POST", "/packages/demo/publishers", json=body)
            check_error(answer, 400)
            assert field in [error["field"] for error in answer.json["errors"]]


async def test_a_repository_that_was_registered_again_publishes_nothing(trusting: Registry, issuer: Issuer):
    ada = await demo(trusting)
    await trust(ada)
    await job(trusting, issuer)
    answer = await exchange(trusting, issuer.token(github(repository_id="2002")))
    assert (answer.json["reason"], answer.json["differs"]) == ("claims", ["repository_id"])
    answer = await exchange(trusting, issuer.token(github(repository_owner_id="666")))
    assert answer.json["differs"] == ["repository_owner_id"]
    # A second publisher of the same repository was never used, but is bound to the same numbers.
    await trust(ada, body={**TRUSTED, "workflow": "nightly.yml"})
    nightly = "org/repo/.github/workflows/nightly.yml@refs/heads/main"
    answer = await exchange(trusting, issuer.token(github(repository_id="2002", workflow_ref=nightly)))
    assert answer.json["reason"] == "claims"
    await job(trusting, issuer, claims=github(repository_id=1001, workflow_ref=nightly))


async def test_one_id_token_counts_once_in_all_processes(make_registry: MakeRegistry, issuer: Issuer):
    one = await make_registry(**settings_of(issuer))
    other = await make_registry(**settings_of(issuer))
    await trust(await demo(one))
    token = issuer.token(github())
    # A refused exchange does not use it up.
    assert (await exchange(one, token, "unborn")).json["reason"] == "claims"
    answers = await asyncio.gather(*(exchange(registry, token) for registry in (one, other) * 5))
    assert sorted(answer.status for answer in answers) == [200] + [401] * 9
    assert {answer.json["reason"] for answer in answers if answer.status == 401} == {"replayed"}


async def test_a_pending_publisher_takes_the_name_with_the_first_version(trusting: Registry, issuer: Issuer):
    ada, bob = await trusting.user("ada"), await trusting.user("bob")
    made = await ada.call("POST", "/auth/publishers", json={**TRUSTED, "package": "fresh"})
    assert (made.status, made.json["package"]) == (201, "fresh")
    assert [each["id"] for each in (await ada.call("GET", "/auth/publishers")).json["publishers"]] == [made.json["id"]]
    assert (await bob.call("GET", "/auth/publishers")).json == {"publishers": [], "next_cursor": None, "limit": 20}
    assert (await ada.call("GET", f"/auth/publishers/{made.json['id']}")).json == made.json
    for method in ("GET", "DELETE"):
        check_error(await bob.call(method, f"/auth/publishers/{made.json['id']}"), 404)
    ci = await job(trusting, issuer, "fresh")
    assert (await ci.put("fresh", "1.0.0")).status == 201
    owners = (await trusting.get("/packages/fresh/owners")).json["owners"]
    assert [(owner["username"], owner["role"]) for owner in owners] == [("ada", "owner")]
    assert (await ada.call("GET", "/auth/publishers")).json["publishers"] == []
    [listed] = (await ada.call("GET", "/packages/fresh/publishers")).json["publishers"]
    assert listed["id"] == made.json["id"]
    assert "package" not in listed
    assert (await (await job(trusting, issuer, "fresh")).put("fresh", "1.1.0")).status == 201
    check_error(await bob.call("POST", "/auth/publishers", json={**TRUSTED, "package": "fresh"}), 409)


async def test_a_pending_publisher_reserves_nothing(trusting: Registry, issuer: Issuer):
    ada, bob = await trusting.user("ada"), await trusting.user("bob")
    assert (await ada.call("POST", "/auth/publishers", json={**TRUSTED, "package": "fresh"})).status == 201
    ci = await job(trusting, issuer, "fresh")
    await bob.publish("fresh")
    check_error(await ci.put("fresh", "2.0.0"), 403)
    answer = await exchange(trusting, issuer.token(github()), "fresh")
    assert (answer.status, answer.json["reason"]) == (401, "claims")
    assert "differs" not in answer.json


async def test_pending_publishers_of_two_users_for_one_workflow_take_no_name(trusting: Registry, issuer: Issuer):
    for name in ("ada", "bob"):
        user = await trusting.user(name)
        assert (await user.call("POST", "/auth/publishers", json={**TRUSTED, "package": "fresh"})).status == 201
    answer = await exchange(trusting, issuer.token(github()), "fresh")
    assert (answer.status, answer.json["reason"]) == (401, "claims")
    assert "Several users" in answer.json["detail"]


async def test_pending_publishers_have_possible_names_and_signed_in_users(trusting: Registry):
    ada = await trusting.user("ada")
    await ada.publish("some-name")
    for name, status in (("Not A Name", 400), ("some_name", 409), ("search", 403)):
        with case(name):
            answer = await ada.call("POST", "/auth/publishers", json={**TRUSTED, "package": name})
            check_error(answer, status)
    check_error(await ada.call("POST", "/auth/publishers", json=TRUSTED), 400)
    headers = await scoped(ada, "manage")
    body = {**TRUSTED, "package": "fresh"}
    check_error(await trusting.call("POST", "/auth/publishers", json=body, headers=headers), 403)


async def test_a_publisher_stays_when_its_maker_leaves(trusting: Registry, issuer: Issuer):
    ada, bob = await demo(trusting), await trusting.user("bob")
    await trust(ada)
    sent = await ada.call("POST", "/packages/demo/transfer", json={"username": "bob"})
    assert (await bob.call("POST", f"/auth/invitations/{sent.json['id']}/accept")).status == 200
    assert (await (await job(trusting, issuer)).put("demo", "2.0.0")).status == 201
    [entry] = [e for e in (await bob.call("GET", "/packages/demo/audit")).json["entries"] if e["version"] == "2.0.0"]
    assert entry["actor"]["username"] == "bob"


async def test_a_token_with_the_scope_manage_lists_and_removes_pending_publishers_of_its_packages(trusting: Registry):
    ada = await trusting.user("ada")
    ids = {}
    for name in ("other", "fresh"):
        made = await ada.call("POST", "/auth/publishers", json={**TRUSTED, "package": name})
        ids[name] = made.json["id"]
    publishing = await token_of(ada, scopes=["publish", "read"])
    check_error(await publishing.call("GET", "/auth/publishers"), 403)
    check_error(await publishing.call("DELETE", f"/auth/publishers/{ids['fresh']}"), 403)
    bound = await token_of(ada, scopes=["manage"], packages=["fresh"])
    listed = (await bound.call("GET", "/auth/publishers?limit=1")).json
    assert ([each["package"] for each in listed["publishers"]], listed["next_cursor"]) == (["fresh"], None)
    check_error(await bound.call("DELETE", f"/auth/publishers/{ids['other']}"), 404)
    assert (await bound.call("DELETE", f"/auth/publishers/{ids['fresh']}")).status == 204
    assert [each["package"] for each in (await ada.call("GET", "/auth/publishers")).json["publishers"]] == ["other"]


@pytest.fixture
async def other_issuer(tmp_path: Path) -> AsyncIterator[Issuer]:
    async with running_issuer(tmp_path, tls=False, host="127.0.0.1") as running:
        yield running


async def test_gitlab_and_other_issuers(make_registry: MakeRegistry, issuer: Issuer, other_issuer: Issuer):
    registry = await make_registry(
        **{**settings_of(issuer), "REGISTRY_OIDC_ISSUERS": f"gitlab={issuer.url}, {other_issuer.url}"}
    )
    ada = await demo(registry)
    made = await trust(ada, body={"kind": "gitlab", "project": "group/project", "ref": "main"})
    assert (made["issuer"], made["environment"]) == (issuer.url, None)
    ci = await job(registry, issuer, claims=gitlab())
    assert (await ci.put("demo", "2.0.0")).status == 201
    assert (await registry.get("/packages/demo/2.0.0")).json["provenance"] == {
        "kind": "gitlab",
        "issuer": issuer.url,
        "repository": "group/project",
        "commit": "b" * 40,
        "ref": "main",
        "workflow": ".gitlab-ci.yml",
        "run_url": f"{issuer.url}/group/project/-/pipelines/555",
    }
    for changed, differs in (
        ({"ref": "feature"}, ["ref"]),
        ({"project_path": "group/project/sub"}, ["project"]),
        ({"project_id": "32"}, ["project_id"]),
        ({"pipeline_source": "merge_request_event"}, ["pipeline_source"]),
    ):
        with case(changed):
            answer = await exchange(registry, issuer.token(gitlab(**changed)))
            assert (answer.json["reason"], answer.json["differs"]) == ("claims", differs)
    body = {"kind": "oidc", "issuer": other_issuer.url, "claims": {"pipeline": "release", "protected": "true"}}
    assert (await trust(ada, body=body))["claims"] == body["claims"]
    claims = {"pipeline": "release", "protected": True, "repository": "r", "sha": "c"}
    ci = await job(registry, other_issuer, claims=claims)
    assert (await ci.put("demo", "3.0.0")).status == 201
    provenance = (await registry.get("/packages/demo/3.0.0")).json["provenance"]
    assert (provenance["kind"], provenance["repository"], provenance["commit"]) == ("oidc", "r", "c")
    assert (provenance["ref"], provenance["workflow"], provenance["run_url"]) == (None, None, None)
    # Only the issuer differs: the members with the right values are not named.
    await ada.publish("other")
    await trust(ada, "other", body)
    assert (await exchange(registry, issuer.token(gitlab(**claims)), "other")).json["differs"] == ["issuer"]
    # A project of the same name at another issuer is another project.
    assert (await exchange(registry, other_issuer.token({**gitlab(), **claims, "pipeline": "x"}))).json["differs"] == [
        "pipeline"
    ]


async def test_the_nearest_of_equally_different_publishers_has_the_same_repository(trusting: Registry, issuer: Issuer):
    ada = await demo(trusting)
    await trust(ada, body={**TRUSTED, "repository": "org/another", "workflow": "other.yml"})
    await trust(ada)
    token = issuer.token(github(workflow_ref="org/repo/.github/workflows/other.yml@refs/heads/main"))
    assert (await exchange(trusting, token)).json["differs"] == ["workflow"]


async def test_a_private_registry_tells_strangers_of_no_publisher(make_registry: MakeRegistry, issuer: Issuer):
    ada = await demo(await make_registry(**settings_of(issuer)))
    await trust(ada)
    private = await make_registry(**settings_of(issuer), REGISTRY_ACCESS="private")

    def told(answer: Answer) -> dict[str, Any]:
        return {name: value for name, value in answer.json.items() if name != "request_id"}

    stranger = github(
        repository="eve/repo", workflow_ref="eve/repo/.github/workflows/release.yml@refs/heads/main", environment="x"
    )
    demo_, unknown = [await exchange(private, issuer.token(stranger), package) for package in ("demo", "unborn")]
    assert told(demo_) == told(unknown)
    assert "differs" not in demo_.json
    own = await exchange(private, issuer.token(github(environment="Production")))
    assert (own.json["differs"], own.json["hint"]) == (["environment"], "case")
    ci = await job(private, issuer)
    assert (await ci.put("demo", "2.0.0")).status == 201


async def test_without_an_audience_every_token_is_refused(make_registry: MakeRegistry, issuer: Issuer):
    variables = {**settings_of(issuer), "REGISTRY_PUBLIC_URL": "", "REGISTRY_HOST": "0.0.0.0"}  # noqa: S104
    registry = await make_registry(**variables)
    answer = await exchange(registry, issuer.token(github()))
    assert (answer.json["reason"], "REGISTRY_PUBLIC_URL" in answer.json["detail"]) == ("audience", True)
    named = await make_registry(**variables, REGISTRY_OIDC_AUDIENCE="synapse")
    await trust(await demo(named))
    await job(named, issuer, claims=github(aud=["synapse"]))
