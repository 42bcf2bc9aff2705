"""The seeded registry has what pages show."""

import aiohttp

from tests.client import API
from tests.pages.seed import ADMIN, OWNER, Seeded
from tests.pages.seed_packages import MAIN


async def test_it_has_downloads_deliveries_and_reports(seeded: Seeded) -> None:
    async def get(path: str, user: str) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {seeded.tokens[user]}"}
        async with (
            aiohttp.ClientSession(f"{seeded.url}{API}/") as session,
            session.get(path, headers=headers) as answer,
        ):
            assert answer.status == 200
            found: dict[str, object] = await answer.json()
            return found

    stats = await get(f"packages/{MAIN}/stats", OWNER)
    assert int(str(stats["total_downloads"])) > 1_000_000
    assert len(list((await get("webhooks/1/deliveries", OWNER))["deliveries"])) == 12  # type: ignore[call-overload]
    assert len(list((await get("admin/reports", ADMIN))["reports"])) == 3  # type: ignore[call-overload]
