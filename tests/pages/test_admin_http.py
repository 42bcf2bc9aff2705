"""The admins' pages: who may see them, what they show, and what their forms do."""

import csv
import io

from registry.db.engine import Statement
from registry.doctor.runs import keep
from registry.jobs import queue
from registry.keys import DB
from tests.client import PASSWORD, Registry
from tests.conftest import MakeRegistry
from tests.pages.entered import entered, expire_confirmations
from tests.pages.visitor import Visitor

PAGES = (
    "/admin", "/admin/users", "/admin/users/ada", "/admin/reports", "/admin/quarantine", "/admin/reserved-names",
    "/admin/jobs", "/admin/health", "/admin/doctor", "/admin/audit",
)  # fmt: skip
_DIE = Statement("UPDATE jobs SET state = 'dead', attempts = 10, last_error = 'ValueError: <b>no</b>'", {})


async def dead_job(registry: Registry, kind: str = "send") -> None:
    async with registry.app[DB].transaction() as conn:
        await queue.enqueue(conn, kind, {"to": "ada@example.com"})
        await conn.run(_DIE)


async def test_strangers_are_led_to_the_sign_in_and_users_get_a_page_of_403(registry: Registry):
    async with Visitor(registry.url) as stranger, await entered(registry, "ada") as ada:
        for path in PAGES:
            answer = await stranger.call("GET", path)
            assert answer.status == 303, path
            assert answer.headers["Location"] == f"/login?next={path.replace('/', '%2F')}"
            refused = await ada.get(path, status=403)
            assert "Only an admin" in refused.text, path
        home = await ada.get("/docs")
        assert "Admin" not in home.texts("nav a")


async def test_every_page_has_one_heading_a_title_of_its_own_and_marks_itself_in_the_navigation(registry: Registry):
    await registry.user("ada")
    titles = set()
    async with await entered(registry, "root", admin=True) as root:
        for path in PAGES:
            page = await root.get(path)
            assert len(page.all("h1")) == len(page.all("main")) == 1
            assert page.headers["Cache-Control"] == "no-store"
            titles.add(page.title)
            [current] = page.all("main nav [aria-current=page]:not(.tabs *)")[:1]
            assert path.startswith(current.get("href"))
    assert len(titles) == len(PAGES)


async def test_users_can_be_found_deactivated_activated_and_made_admins(registry: Registry):
    ada = await registry.user("ada", email="ada@example.com")
    await registry.user("bob")
    async with await entered(registry, "root", admin=True) as root:
        page = await root.get("/admin/users?text=EXAMPLE.com&role=user&state=active")
        assert page.texts("tbody th a") == ["ada"]
        page = await root.get(page.link("ada"))
        page = await root.send(page, "Deactivate")
        assert "can't sign in any more" in page.text
        assert (await ada.call("GET", "/auth/me")).status == 401
        page = await root.send(page, "Activate")
        assert "can sign in again" in page.text
        again = await registry.call("POST", "/auth/login", json={"username": "ada", "password": PASSWORD})
        assert again.status == 200
        page = await root.send(page, "Make admin")
        assert "The role has changed" in page.text
        assert (await root.get("/admin/users?role=admin")).texts("tbody th a") == ["root", "ada"]
        page = await root.send(page, "Make user")
        assert (await root.get("/admin/users?role=admin")).texts("tbody th a") == ["root"]
        page = await root.get("/admin/users?text=nobody")
        assert "No user fits" in page.text
        await root.get("/admin/users/nobody", status=404)
        await root.get("/admin/users?cursor=x", status=400)


async def test_an_admin_cannot_change_the_own_account(registry: Registry):
    await registry.user("ada")
    async with await entered(registry, "root", admin=True) as root:
        own = await root.get("/admin/users/root")
        assert [button for button in own.buttons() if button != "Sign out"] == []
        other = await root.get("/admin/users/ada")
        form = dict(other.form("Deactivate").form_values())
        refused = await root.call("POST", "/admin/users/root/deactivate", data=form)
        assert refused.status == 409
        assert "your own account" in refused.text


async def test_a_change_of_an_account_asks_again_who_it_is(registry: Registry):
    ada = await registry.user("ada")
    async with await entered(registry, "root", admin=True) as root:
        page = await root.get("/admin/users/ada")
        await expire_confirmations(registry)
        asked = await root.send(page, "Deactivate", status=403)
        assert (await ada.call("GET", "/auth/me")).status == 200
        done = await root.send(asked, "Confirm", confirm_password=PASSWORD)
        assert "can't sign in any more" in done.text
        assert (await ada.call("GET", "/auth/me")).status == 401


async def test_lost_factors_are_removed(registry: Registry):
    ada = await registry.user("ada")
    async with registry.app[DB].transaction() as conn:
        insert = "INSERT INTO totp_secrets (user_id, sealed, confirmed_at) VALUES (%(user)s, 'x', now())"
        await conn.run(Statement(insert, {}), user=ada.id)
    async with await entered(registry, "root", admin=True) as root:
        page = await root.get("/admin/users/ada")
        page = await root.send(page, "Reset factors")
        assert "The password alone signs in now" in page.text
        assert "Reset factors" not in page.buttons()


async def test_a_report_leads_to_the_quarantine_and_is_closed(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    await ada.publish("demo")
    body = {"kind": "malware", "text": "It <script>alert(1)</script> steals keys"}
    assert (await bob.call("POST", "/packages/demo/report", json=body)).status == 202
    async with await entered(registry, "root", admin=True) as root:
        overview = await root.get("/admin")
        assert "Open reports" in overview.text
        page = await root.get(overview.link("Open reports"))
        assert "It <script>alert(1)</script> steals keys" in page.text
        refused = await root.send(page, "Quarantine", status=400, reason=" ")
        assert refused.all("details[open] .field-error")
        page = await root.send(refused, "Quarantine", reason="It steals keys")
        assert "The package is in quarantine" in page.text
        assert (await registry.get("/packages/demo")).status == 403
        page = await root.send(page, "Close")
        assert "No report is open" in page.text
        page = await root.send(await root.get("/admin/reports?state=closed"), "Open again")
        assert "demo" in page.text


async def test_packages_are_quarantined_by_name_and_released(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("my-demo")
    async with await entered(registry, "root", admin=True) as root:
        page = await root.get("/admin/quarantine")
        assert "No package is in quarantine" in page.text
        for name, status in (("nothing-here", 404), ("my_demo", 400), ("", 404)):
            refused = await root.send(page, "Quarantine", status=status, package=name, reason="Malware")
            assert [refused.form("Quarantine").fields[each] for each in ("package", "reason")] == [name, "Malware"]
        page = await root.send(page, "Quarantine", package="my-demo", reason="Malware <b>")
        assert "Malware <b>" in page.text
        assert (await registry.get("/packages/my-demo")).status == 403
        page = await root.send(page, "Release")
        assert (await registry.get("/packages/my-demo")).status == 200
        audit = await root.get("/admin/audit?package=my-demo")
        assert audit.texts(".entry code") == ["package.release", "package.quarantine", "version.publish"]


async def test_names_are_reserved_and_freed(registry: Registry):
    ada = await registry.user("ada")
    async with await entered(registry, "root", admin=True) as root:
        page = await root.get("/admin/reserved-names")
        refused = await root.send(page, "Reserve", status=400, name="Not A Name", reason="Ours")
        assert refused.form("Reserve").fields["name"] == "Not A Name"
        assert refused.all("#name-error")
        assert "reserved already" in (await root.send(page, "Reserve", status=409, name="api")).text
        page = await root.send(page, "Reserve", name="big-brand", reason="Ours")
        assert (await ada.put("big-brand", "1.0.0")).json["code"] == "name_reserved"
        page = await root.send(page, "Remove")
        assert "no longer reserved" in page.text
        await ada.publish("big-brand")


async def test_dead_jobs_are_retried_and_discarded(make_registry: MakeRegistry):
    registry = await make_registry(with_background=False)
    await dead_job(registry)
    await dead_job(registry, "other")
    async with await entered(registry, "root", admin=True) as root:
        page = await root.get("/admin/jobs")
        assert page.texts(".rows h2") == ["other 2", "send 1"]
        assert "ValueError: <b>no</b>" in page.text
        assert "ada@example.com" not in page.body.decode()
        again = await root.send(page, "Retry")
        assert "in the queue again" in again.text
        assert "is not dead" in (await root.send(page, "Retry", status=409)).text
        assert again.texts(".tabs-plain span") == ["1", "1", "0"]
        empty = await root.send(again, "Discard")
        assert "No job is dead" in empty.text
        assert (await root.get("/admin/jobs?state=queued")).texts(".rows h2") == ["other 2"]


async def test_the_last_findings_of_the_doctor_are_shown(registry: Registry):
    check = {
        "name": "tarballs", "law": "each version has its tarball", "remedy": "restore it", "mendable": False,
        "found": 2, "left": 2, "examples": ["demo <b>1.0.0</b>"], "problem": None, "seconds": 0.1,
    }  # fmt: skip
    async with await entered(registry, "root", admin=True) as root:
        assert "has not run yet" in (await root.get("/admin/doctor")).text
        clean = {"status": 0, "repaired": True, "checks": [{**check, "found": 0, "left": 0, "examples": []}]}
        await keep.save(registry.app[DB], clean, seconds=1.5, is_deep=False)
        assert "Everything agrees" in (await root.get("/admin/doctor")).text
        await keep.save(registry.app[DB], {"status": 1, "repaired": False, "checks": [check]}, seconds=2, is_deep=True)
        page = await root.get("/admin/doctor")
        assert "2 differences left" in page.text
        assert "demo <b>1.0.0</b>" in page.text
        assert "To do by hand: restore it" in page.text
        earlier = page.all("main section a")[-1].get("href")
        assert "Everything agrees" in (await root.get(earlier)).text
        assert "Doctor" in (await root.get("/admin")).text


async def test_health_shows_each_server(registry: Registry):
    async with await entered(registry, "root", admin=True) as root:
        page = await root.get("/admin/health")
        assert page.texts(".rows h2") == ["Database", "Storage", "Search"]
        assert page.texts(".rows .state")[:2] == ["healthy", "healthy"]


async def test_the_audit_log_is_filtered_and_sent_as_csv(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    async with await entered(registry, "root", admin=True) as root:
        page = await root.send(await root.get("/admin/audit"), "Filter", actor="ada", action="version.publish")
        assert page.texts(".entry code") == ["version.publish"]
        sheet = await root.get(f"/admin/audit{page.link('Download CSV')}")
        assert [row["action"] for row in csv.DictReader(io.StringIO(sheet.body.decode()))] == ["version.publish"]
        assert (await root.get("/admin/audit?from=yesterday", status=400)).all(".field-error")


async def test_forms_of_admins_need_their_token_and_an_admin(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    async with await entered(registry, "root", admin=True) as root, await entered(registry, "bob") as bob:
        page = await root.get("/admin/quarantine")
        form = {**dict(page.form("Quarantine").form_values()), "package": "demo", "reason": "x"}
        for visitor, fields in ((root, {**form, "csrf": ""}), (bob, form)):
            answer = await visitor.call("POST", "/admin/quarantine", data=fields)
            assert answer.status == 403
        own = dict((await bob.get("/docs")).form("Sign out").form_values())
        for path, fields in (
            ("/admin/quarantine", {"package": "demo", "reason": "x"}),
            ("/admin/quarantine/release", {"package": "demo"}),
            ("/admin/users/ada/role", {"role": "admin"}), ("/admin/users/ada/deactivate", {}),
            ("/admin/users/ada/activate", {}), ("/admin/users/ada/reset-factors", {}), ("/admin/reports/1", {}),
            ("/admin/reserved-names", {"name": "x-y", "reason": ""}), ("/admin/reserved-names/1/remove", {}),
            ("/admin/jobs/1/retry", {}), ("/admin/jobs/1/discard", {}),
        ):  # fmt: skip
            answer = await bob.call("POST", path, data={**own, **fields})
            assert (answer.status, "Only an admin" in answer.text) == (403, True), path
        assert (await registry.get("/packages/demo")).status == 200


async def test_a_read_only_registry_shows_no_forms_that_write(make_registry: MakeRegistry):
    registry = await make_registry()
    ada = await registry.user("ada")
    await ada.publish("demo")
    assert (await ada.call("POST", "/packages/demo/report", json={"kind": "spam", "text": "x"})).status == 202
    await registry.user("root", admin=True)
    frozen = await make_registry(REGISTRY_READ_ONLY="true")
    async with await entered(frozen, "root", exists=True) as root:
        for path in PAGES:
            page = await root.get(path)
            assert set(page.buttons()) <= {"Sign out"}, path
            assert "read-only" in page.text, path
