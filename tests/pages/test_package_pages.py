"""The pages of packages and users."""

from typing import Any

import pytest

from registry.packages.provenance import Provenance
from registry.pages.package.provenance import shown
from tests.client import PASSWORD, Registry, tarball
from tests.conftest import MakeRegistry
from tests.pages.visitor import Page, Visitor, signed_in
from tests.web.shape import case

README = "# mint-http\n\nA client for people who want **three lines**."


@pytest.fixture
async def filled(make_registry: MakeRegistry) -> Registry:
    # On a busy machine, the search engine may need longer than the default time.
    registry = await make_registry(REGISTRY_ES_TIMEOUT="20s")
    ada = await registry.user("ada")
    about: dict[str, Any] = {
        "description": "Small HTTP client <b>with retries</b>", "license": "MIT", "keywords": ["http", "retry & wait"],
        "repository": "https://code.example/mint/mint-http.git", "homepage": "https://mint.example/", "author": "Ada",
    }  # fmt: skip
    await ada.publish("mint-http", "1.0.0", **about)
    await ada.publish("mint-http", "1.1.0", **about)
    await ada.publish("mint-http", "2.0.0-rc.1", **about)
    await ada.publish(
        "mint-http",
        "1.2.0",
        data=tarball(
            {"name": "mint-http", "version": "1.2.0", "dependencies": {"tide": "^1.0.0", "gone": "2"}, **about},
            {"README.md": README.encode()},
        ),
    )
    return registry


async def get(registry: Registry, path: str, status: int = 200) -> Page:
    async with Visitor(registry.url) as visitor:
        return await visitor.get(path, status=status)


async def test_the_page_of_a_package_says_what_it_is_and_how_to_get_it(filled: Registry):
    assert (await filled.get("/packages/mint-http/1.2.0/tarball")).status == 200
    await filled.flush()
    page = await get(filled, "/packages/mint-http")
    assert (page.heading, page.title) == ("mint-http", "mint-http · Synapse")
    assert page.texts(".lead") == ["Small HTTP client <b>with retries</b>"]
    assert page.texts(".package-get .install code") == ["synapse-registry download mint-http"]
    assert page.texts(".tabs a") == ["Readme", "Versions 4", "Dependencies 2", "Dependents 0", "Files", "Statistics"]
    assert page.texts(".tabs [aria-current]") == ["Readme"]
    assert "A client for people who want" in page.texts(".prose")[0]
    facts = dict(zip(page.texts(".facts dt"), page.texts(".facts dd"), strict=True))
    version = (await filled.get("/packages/mint-http/1.2.0")).json
    assert facts["Licence"] == "MIT"
    assert facts["Repository"] == "mint/mint-http"
    assert facts["SHA-256"].startswith(f"{version['checksum'][:4]}…{version['checksum'][-4:]}")
    assert page.all(".checksum code")[0].get("title") == version["checksum"]
    [repository] = [link for link in page.all(".facts a") if link.text_content() == "mint/mint-http"]
    assert repository.get("rel") == "nofollow ugc noopener"
    assert (page.link("ada"), page.link("Report")) == ("/users/ada", "/packages/mint-http/report")
    assert page.link("retry & wait") == "/search?q=retry+%26+wait&keyword=retry+%26+wait"
    assert page.all(".package-title time")[0].get("title").endswith(" UTC")
    [feed] = page.all("link[rel=alternate]")
    assert feed.get("href") == "/packages/mint-http/feed.atom"
    assert page.headers["Cache-Control"] == "public, max-age=60"


async def test_the_picker_leads_to_the_other_versions(filled: Registry):
    page = await get(filled, "/packages/mint-http")
    assert page.texts(".picker summary") == ["1.2.0"]
    assert page.texts(".picker-list li") == ["2.0.0-rc.1", "1.2.0 latest", "1.1.0", "1.0.0"]
    older = await get(filled, page.link("1.1.0"))
    assert older.texts(".picker summary") == ["1.1.0"]
    assert older.texts(".package-get .install code") == ["synapse-registry download mint-http@1.1.0"]
    assert (older.title, older.link("latest is 1.2.0")) == ("mint-http 1.1.0 · Synapse", "/packages/mint-http")
    assert "This version has no README." in older.text
    assert (await get(filled, "/packages/mint-http/latest")).texts(".picker summary") == ["1.2.0"]
    # A plus sign in an address.
    ada = await filled.user("ada")
    await ada.publish("mint-http", "3.0.0+linux.x64")
    page = await get(filled, (await get(filled, "/packages/mint-http")).link("Files").removesuffix("/files"))
    assert page.texts(".picker summary") == ["3.0.0+linux.x64"]
    assert page.url.endswith("/packages/mint-http/3.0.0%2Blinux.x64")


async def test_states_are_told_with_what_to_do(filled: Registry):
    ada = await filled.user("ada")
    yank = {"yanked": True, "reason": "It drops <i>bodies</i>."}
    assert (await ada.call("PATCH", "/packages/mint-http/1.1.0", json=yank)).status == 200
    page = await get(filled, "/packages/mint-http/1.1.0")
    assert page.texts(".notice") == ["1.1.0 was yanked. It drops <i>bodies</i>. Use 1.2.0."]
    page = await get(filled, "/packages/mint-http")
    assert page.texts(".notice") == ["1.1.0 was yanked. It drops <i>bodies</i>. Use 1.2.0."]
    end = {"deprecated": True, "message": "No time left.", "successor": "peach-http"}
    assert (await ada.call("PATCH", "/packages/mint-http", json=end)).status == 200
    page = await get(filled, "/packages/mint-http")
    assert page.texts(".notice")[0] == "This package is deprecated. No time left. Use peach-http instead."
    assert page.link("peach-http") == "/packages/peach-http"


async def test_a_quarantined_package_is_a_page_of_403_with_the_reason(filled: Registry):
    root = await filled.user("root", admin=True)
    change = {"quarantined": True, "reason": "It mines <coins>."}
    assert (await root.call("PATCH", "/packages/mint-http", json=change)).status == 200
    for path in ("", "/1.2.0", "/versions", "/dependents", "/dependencies", "/1.2.0/dependencies"):
        with case(path):
            page = await get(filled, f"/packages/mint-http{path}", 403)
            assert page.heading == "mint-http is in quarantine"
            assert "It mines <coins>." in page.text
            assert "three lines" not in page.text


async def test_a_missing_package_suggests_similar_names(filled: Registry):
    await filled.drain()
    page = await get(filled, "/packages/mint-htpp", 404)
    assert page.link("mint-http") == "/packages/mint-http"
    for path in ("/packages/nothing", "/packages/%00", "/packages/%C3%A9", "/packages/nothing/1.0.0", "/users/nobody",
                 "/users/%00", "/packages/nothing/versions"):  # fmt: skip
        with case(path):
            page = await get(filled, path, 404)
            assert page.heading == "There is nothing at this address"
            assert page.all("main .chip") == []
    page = await get(filled, "/packages/mint-http/9.9.9", 404)
    assert page.heading == "There is no version 9.9.9 of mint-http"
    assert page.link("All versions") == "/packages/mint-http/versions"
    assert "/api/" not in page.text


async def test_look_alike_names_lead_to_the_package(filled: Registry):
    async with Visitor(filled.url) as visitor:
        for path in ("", "/1.2.0", "/versions", "/dependents?range=1", "/1.2.0/dependencies"):
            page = await visitor.call("GET", f"/packages/mint_http{path}")
            assert (page.status, page.headers["Location"]) == (301, f"/packages/mint-http{path}")


async def test_versions_are_listed_with_their_facts_in_pages(filled: Registry, monkeypatch):
    ada = await filled.user("ada")
    reason = {"yanked": True, "reason": "Too loud."}
    assert (await ada.call("PATCH", "/packages/mint-http/1.0.0", json=reason)).status == 200
    page = await get(filled, "/packages/mint-http/versions")
    rows = page.texts(".table tbody tr")
    assert [row.split()[0] for row in rows] == ["2.0.0-rc.1", "1.2.0", "1.1.0", "1.0.0"]
    assert "prerelease" in rows[0]
    assert "latest" in rows[1]
    assert "yanked Too loud." in rows[3]
    assert "by ada" in rows[3]
    page = await get(filled, "/packages/mint-http/versions?q=1.1")
    assert [row.split()[0] for row in page.texts(".table tbody tr")] == ["1.1.0"]
    assert "No version matches." in (await get(filled, "/packages/mint-http/versions?q=7")).text
    monkeypatch.setattr("registry.packages.overview.overview.PAGE", 3)
    page = await get(filled, "/packages/mint-http/versions")
    assert "Versions 1 to 3 of 4" in page.text
    page = await get(filled, page.link("Next page"))
    assert [row.split()[0] for row in page.texts(".table tbody tr")] == ["1.0.0"]
    assert page.link("Previous page") == "/packages/mint-http/versions?page=1"
    for query in ("page=0", "page=x", "page=99999", "q=" + "1" * 200, "q=%00", "page=1&page=2"):
        with case(query):
            await get(filled, f"/packages/mint-http/versions?{query}", 400)


async def test_dependencies_say_what_they_mean_here(filled: Registry):
    ada = await filled.user("ada")
    for version in ("1.0.0", "1.5.0", "1.6.0", "2.0.0", "2.1.0-rc.1"):
        await ada.publish("tide", version)
    await ada.call("PATCH", "/packages/tide/1.6.0", json={"yanked": True, "reason": "Wet"})
    await ada.publish("many", dependencies={"tide": "1.6.0", "mint_http": "*", "none": "^1"})
    await ada.publish("others", dependencies={"tide": "^9", "mint-http": ">=2.0.0-rc.1", "many": "1"})

    async def rows(path: str) -> list[str]:
        found = (await get(filled, path)).texts(".table tbody tr")
        return [row.replace("Small HTTP client <b>with retries</b>", "") for row in found]

    # The range ^1.0.0 passes over the yanked version, and `gone` is no package here.
    assert await rows("/packages/mint-http/1.2.0/dependencies") == [
        "gone 2 not in this registry",
        "tideAbout tide ^1.0.0 1.5.0 latest is 2.0.0",
    ]
    assert await rows("/packages/many/dependencies") == [
        "mint-http * 1.2.0 latest",
        "none ^1 not in this registry",
        "tideAbout tide 1.6.0 1.6.0 yanked",
    ]
    assert await rows("/packages/others/dependencies") == [
        "manyAbout many 1 1.0.0 latest",
        "mint-http >=2.0.0-rc.1 2.0.0-rc.1 latest is 1.2.0",
        "tideAbout tide ^9 no version matches latest is 2.0.0",
    ]
    assert "Version 1.1.0 needs no other package." in (await get(filled, "/packages/mint-http/1.1.0/dependencies")).text


async def test_dependents_are_listed_and_filtered_by_a_range(filled: Registry):
    ada = await filled.user("ada")
    assert "No package depends on mint-http yet." in (await get(filled, "/packages/mint-http/dependents")).text
    await ada.publish("left", dependencies={"mint-http": "^1.0.0"})
    await ada.publish("right", dependencies={"mint-http": "^2.0.0"})
    page = await get(filled, "/packages/mint-http/dependents")
    assert [row.split()[0] for row in page.texts(".table tbody tr")] == ["left", "right"]
    async with Visitor(filled.url) as visitor:
        page = await visitor.send(await visitor.get("/packages/mint-http/dependents"), "Filter", range="1.x")
        assert [row.split()[0] for row in page.texts(".table tbody tr")] == ["left"]
        page = await visitor.get("/packages/mint-http/dependents?range=one", status=400)
        assert page.all("#range")[0].get("value") == "one"
        assert page.texts("[role=alert]")[0].startswith("This is not a version range.")
    assert "No package accepts" in (await get(filled, "/packages/mint-http/dependents?range=9")).text
    await get(filled, "/packages/mint-http/dependents?cursor=x", 400)


async def test_a_package_is_reported_by_a_form(filled: Registry):
    root = await filled.user("root", admin=True)
    async with Visitor(filled.url) as visitor:
        page = await visitor.call("GET", "/packages/mint-http/report")
        assert (page.status, page.headers["Location"]) == (303, "/login?next=%2Fpackages%2Fmint-http%2Freport")
    async with await signed_in(filled, "eve") as visitor:
        page = await visitor.get("/packages/mint-http/report")
        page = await visitor.send(page, "Report", kind="spam", text="  ", status=400)
        assert page.texts(".field-error") == ["Must not be blank."]
        assert page.all("[name=kind][checked]")[0].get("value") == "spam"
        page = await visitor.send(page, "Report", kind="malware", text="It reads\n~/.ssh")
        assert "The admins of this registry have got your report." in page.text
        [report] = (await root.call("GET", "/admin/reports")).json["reports"]
        assert (report["package"], report["kind"], report["text"]) == ("mint-http", "malware", "It reads\n~/.ssh")
        # A package in quarantine can be reported, too.
        change = {"quarantined": True, "reason": "x"}
        assert (await root.call("PATCH", "/packages/mint-http", json=change)).status == 200
        page = await visitor.send(await visitor.get("/packages/mint-http/report"), "Report", kind="other", text="Again")
        assert len((await root.call("GET", "/admin/reports")).json["reports"]) == 2
        await visitor.get("/packages/nothing/report", status=404)


async def test_the_page_of_a_user_lists_the_users_packages(filled: Registry):
    ada = await filled.user("ada")
    await ada.publish("tide")
    await filled.get("/packages/tide/1.0.0/tarball")
    await filled.flush()
    await ada.publish("short-lived")
    assert (await ada.call("DELETE", "/packages/short-lived/1.0.0")).status == 204
    page = await get(filled, "/users/ada")
    assert page.heading == "ada"
    assert page.texts(".result h3") == ["tide 1.0.0", "mint-http 1.2.0"]
    assert page.texts(".lead")[0].startswith("2 packages · here since ")
    await filled.user("eve")
    assert "eve has not published anything" in (await get(filled, "/users/eve")).text
    eve = await filled.user("eve")
    assert (await eve.call("DELETE", "/auth/me", json={"password": PASSWORD})).status == 204
    await get(filled, "/users/eve", 404)


async def test_owners_find_the_settings(filled: Registry):
    async with await signed_in(filled, "ada") as visitor:
        page = await visitor.get("/packages/mint-http")
        assert page.link("Settings") == "/packages/mint-http/settings"
        assert page.headers["Cache-Control"] == "no-store"
    async with await signed_in(filled, "eve") as visitor:
        assert "Settings" not in (await visitor.get("/packages/mint-http")).texts(".tabs a")


async def test_a_private_registry_tells_a_stranger_nothing(make_registry: MakeRegistry):
    private = await make_registry(REGISTRY_ACCESS="private")
    ada = await private.user("ada")
    await ada.publish("secret-plan")
    async with Visitor(private.url) as visitor:
        for path in ("/packages/secret-plan", "/packages/secret-plan/versions", "/packages/nothing", "/users/ada",
                     "/packages/secret_plan", "/packages/secret-plan/1.0.0/dependencies"):  # fmt: skip
            page = await visitor.call("GET", path)
            assert (page.status, page.body) == (303, b""), path
            assert page.headers["Location"].startswith("/login?next=")
        await visitor.sign_in("ada")
        assert (await visitor.get("/packages/secret-plan")).heading == "secret-plan"


async def test_a_read_only_registry_has_no_form_to_report(filled: Registry, make_registry: MakeRegistry):
    closed = await make_registry(REGISTRY_READ_ONLY="true")
    async with await signed_in(filled, "eve"):
        pass
    async with Visitor(closed.url) as visitor:
        await visitor.sign_in("eve")
        page = await visitor.get("/packages/mint-http/report")
        assert "Report" not in page.buttons()
        assert "This registry is read-only." in page.text


RUN = "https://code.example/org/repo/actions/runs/7"
JOB: Provenance = {
    "kind": "github", "issuer": "https://issuer.example", "repository": "org/repo", "commit": "4be19c2aa0",
    "ref": "main", "workflow": "release.yml", "run_url": RUN,
}  # fmt: skip


def test_provenance_links_to_the_repository_of_the_run():
    found = shown(JOB)
    assert (found.workflow, found.commit, found.run_url) == ("release.yml", "4be19c2", RUN)
    assert found.repository_url == "https://code.example/org/repo"
    assert found.commit_url == "https://code.example/org/repo/commit/4be19c2aa0"
    assert shown({**JOB, "kind": "gitlab"}).commit_url == "https://code.example/org/repo/-/commit/4be19c2aa0"


def test_provenance_without_a_run_of_the_repository_has_no_links():
    for run_url in (None, "javascript:alert(1)//org/repo/", "https://code.example/other/repo/runs/7"):
        found = shown({**JOB, "run_url": run_url})
        assert (found.repository_url, found.commit_url) == ("", ""), run_url
    assert shown({**JOB, "run_url": "javascript:alert(1)"}).run_url == ""
    assert shown({**JOB, "kind": "oidc"}).commit_url == ""
    empty = dict.fromkeys(("repository", "commit", "ref", "workflow", "run_url"))
    assert shown({**JOB, **empty}).workflow == ""
    assert shown(None) is None
