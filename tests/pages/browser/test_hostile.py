"""Texts of users that attack the pages: nothing runs, nothing is loaded from elsewhere, nothing leaves its place."""

from urllib.parse import quote, urlsplit

import aiohttp
import pytest
from playwright.async_api import Page as Tab

from tests.client import PASSWORD, tarball
from tests.pages import hostile
from tests.pages.browser.tabs import Tabs
from tests.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAME, USER = "attack", "mallory"
# What an attack may have left in the page, whether or not it worked.
_TRACES = """() => {
  const found = [];
  for (const element of document.querySelectorAll("*")) {
    for (const { name, value } of element.attributes) {
      if (name.startsWith("on") || name === "style" || name === "srcdoc" || name === "formaction") found.push(name);
      const address = ["href", "src", "xlink:href", "action", "poster", "srcset", "ping"].includes(name);
      if (address && /^[\\s\\0-\\x1f]*(javascript|vbscript|data):/i.test(value)) found.push(`${name}=${value}`);
    }
  }
  const scripts = [...document.scripts].filter((script) => !script.src.startsWith(location.origin));
  const main = document.querySelector("main");
  return [
    ...found,
    ...scripts.map((script) => script.outerHTML.slice(0, 60)),
    ...[...document.querySelectorAll("iframe, object, embed, base, meta[http-equiv], style")].map((e) => e.outerHTML),
    ...["main", "h1", "footer"].filter((name) => document.querySelectorAll(name).length !== 1),
    ...(main.contains(document.querySelector("footer")) ? ["a footer in main"] : []),
    ...(document.getElementById("main") === main ? [] : ["the id main"]),
    ...(new Set([...document.querySelectorAll("[id]")].map((e) => e.id)).size ===
      document.querySelectorAll("[id]").length ? [] : ["an id twice"]),
  ];
}"""


async def _publish(service: Service) -> None:
    """A version of NAME for each README. Each has other attacks in all its fields and in the name of a file."""
    async with aiohttp.ClientSession() as session:
        body = {"username": USER, "password": PASSWORD}
        for path in ("register", "login"):
            async with session.post(service.api(f"/auth/{path}"), json=body) as answer:
                token = (await answer.json()).get("token")
        texts = zip(hostile.readmes(), hostile.lines(), hostile.file_names(), strict=True)
        for number, (readme, line, file) in enumerate(texts):
            version = f"1.0.{number}"
            manifest = {
                "name": NAME, "version": version, "description": line, "license": line, "author": line,
                "keywords": [line[:60]], "homepage": f"https://{hostile.EVIL}/?{quote(line)}",
            }  # fmt: skip
            files = {"README.md": readme.encode(), file: f"{line}\n{readme}".encode(), "page.html": readme.encode()}
            # A header can't have all characters.
            agent = line.encode("ascii", "replace").decode()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/gzip", "User-Agent": agent}
            url = service.api(f"/packages/{NAME}/{version}")
            async with session.put(url, data=tarball(manifest, files), headers=headers) as answer:
                assert answer.status == 201, (version, await answer.text())
            if number % 10 == 0:
                yank = {"yanked": True, "reason": line}
                async with session.patch(url, json=yank, headers={"Authorization": headers["Authorization"]}) as answer:
                    assert answer.status == 200, await answer.text()
        for line in hostile.lines()[:20]:
            token_body = {"name": line[:90], "scopes": ["read"]}
            headers = {"Authorization": f"Bearer {token}"}
            async with session.post(service.api("/auth/tokens"), json=token_body, headers=headers) as answer:
                assert answer.status == 201, await answer.text()


def _pages() -> list[str]:
    """The pages that show these texts."""
    versions = [f"/packages/{NAME}/1.0.{number}" for number in range(hostile.COUNT)]
    files = [f"/packages/{NAME}/1.0.{n}/files" for n in range(0, hostile.COUNT, 20)]
    sources = [f"{versions[n]}/files/{quote(hostile.file_names()[n])}" for n in range(0, 60, 3)]
    html = [f"{versions[n]}/files/page.html" for n in range(0, 60, 6)]
    diffs = [f"{versions[n]}/diff/1.0.{n + 1}" for n in range(0, 60, 6)]
    mine = ["/account/audit", "/account/tokens", f"/packages/{NAME}/settings", f"/packages/{NAME}/settings/audit"]
    others = [f"/packages/{NAME}/versions", f"/users/{USER}", "/", f"/search?q={quote(hostile.lines()[0])}"]
    return [*versions, *files, *sources, *html, *diffs, *others, *mine]


async def test_the_traps_notice_attacks(tabs: Tabs, playground: Service) -> None:
    """Without our rendering and our policy, attacks run and leave traces."""
    tab = await tabs.open(url=playground.url)
    ran: list[str] = []
    await tab.expose_function("hacked", lambda: ran.append("ran"))
    await tab.goto("about:blank")
    await tab.set_content("<main id='main'><h1>x</h1>" + "".join(hostile.HTML[1:6]) + "</main><footer></footer>")
    await tab.wait_for_function("document.querySelector('img').complete")
    assert ran
    assert await tab.evaluate(_TRACES)
    tabs.problems.clear()


async def test_attacks_do_nothing(tabs: Tabs, playground: Service) -> None:
    await _publish(playground)
    tab = await tabs.open(USER, url=playground.url)
    found: list[str] = []
    tab.on("dialog", lambda dialog: found.append(f"{tab.url}: dialog {dialog.message}"))
    tab.on("request", lambda request: found.extend(_elsewhere(request.url, playground.url)))
    await tab.expose_function("hacked", lambda: found.append(f"{tab.url}: ran"))
    for path in _pages():
        response = await tab.goto(path)
        assert response is not None
        found += [f"{path}: status {response.status}"] if response.status != 200 else []
        found += [f"{path}: {trace}" for trace in await tab.evaluate(_TRACES)]
        found += await _foreign_links(tab, path)
    assert not found, "\n".join(found)


def _elsewhere(address: str, own: str) -> list[str]:
    return [] if address.startswith(f"{own}/") else [f"a request to {urlsplit(address).netloc or address[:80]}"]


async def _foreign_links(tab: Tab, path: str) -> list[str]:
    """Links to other sites that are not marked as links of users."""
    links = await tab.evaluate("""() => [...document.querySelectorAll("main a")]
      .filter((a) => a.origin !== location.origin)
      .map((a) => [a.href, a.rel])""")
    return [
        f"{path}: link to {href} with rel {rel!r}"
        for href, rel in links
        if not href.startswith(("http:", "https:")) or not {"nofollow", "ugc", "noopener"} <= set(rel.split())
    ]
