"""Popularity over HTTP: downloads from one address, however many, are one client."""

import asyncio
from typing import Any

from tests.client import Registry
from tests.conftest import MakeRegistry


async def download(registry: Registry, name: str, *headers: dict[str, str]) -> None:
    for given in headers:
        assert (await registry.get(f"/packages/{name}/1.0.0/tarball", headers=given)).status == 200


async def order(registry: Registry, **params: str) -> list[tuple[str, int]]:
    """(name, downloads) of each result."""
    page = (await registry.get("/search", params={"q": "json documents", **params})).json
    return [(each["name"], each["total_downloads"]) for each in page["results"]]


async def test_clients_decide_the_order_and_downloads_their_own(make_registry: MakeRegistry) -> None:
    registry = await make_registry(REGISTRY_TRUSTED_PROXIES="127.0.0.1/32")
    ada = await registry.user("ada")
    for name in ("json-bought", "json-liked"):
        await ada.publish(name, description="Parses JSON documents")
    agents = [{"X-Forwarded-For": "203.0.113.7", "User-Agent": f"agent-{number}"} for number in range(100)]
    addresses = [{"X-Forwarded-For": f"198.51.100.{number}"} for number in range(30)]
    networks = [{"X-Forwarded-For": f"2001:db8::{number:x}"} for number in range(30)]
    await download(registry, "json-bought", *agents, *networks)
    await download(registry, "json-liked", *addresses)
    liked_first = [("json-liked", 30), ("json-bought", 130)]
    clients = {
        "json-bought": "It has 130 downloads, which count as 2.0 clients.",
        "json-liked": "It has 30 downloads, which count as 30.0 clients.",
    }
    async with asyncio.timeout(60):
        # Clients are counted after their downloads, so the order may be right before the last client is counted.
        while (
            await order(registry) != liked_first or {name: await counted(registry, name) for name in clients} != clients
        ):
            await asyncio.sleep(0.1)
    assert await order(registry, sort="downloads") == liked_first[::-1]


async def counted(registry: Registry, name: str) -> Any:
    """The first sentence about the popularity of a package."""
    answer = await registry.get("/search/explain", params={"q": "json documents", "name": name})
    [popularity] = [each for each in answer.json["factors"] if each["part"] == "popularity"]
    return popularity["because"].partition(" A client ")[0]
