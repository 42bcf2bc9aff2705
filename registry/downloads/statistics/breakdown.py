"""Downloads of a period by version, client, kind, country and system, without a series over time."""

from dataclasses import dataclass
from datetime import date

from registry.db.engine import Database
from registry.downloads.statistics import store

OTHERS = store.OTHERS
TRAITS = tuple(store.TRAITS)
"""What the downloads of the registry are grouped by, as in the API. A package also has `version`."""

SHOWN = 12
"""The groups with the most downloads. All other groups are added up as store.OTHERS."""


@dataclass(frozen=True, slots=True)
class Share:
    """`label` is "" for downloads of which the group is unknown. `unique` omits repeats within a minute."""

    label: str
    downloads: int
    unique: int


async def breakdown(db: Database, name: str | None, first: date, last: date) -> dict[str, list[Share]]:
    """The shares of each trait ("version", "client", "kind", "country", "os"), the largest first.

    `name` is a package as it was published; None means the registry, which has no versions.
    """
    async with db.read() as conn:
        rows = await store.shares(conn, name, first, last)
    found: dict[str, list[Share]] = (
        {trait: [] for trait in store.TRAITS} if name is None else {trait: [] for trait in ("version", *store.TRAITS)}
    )
    for row in rows:
        found[row.trait].append(Share(row.label, int(row.downloads), int(row.unique)))
    return {trait: _with_others(shares) for trait, shares in found.items()}


def _with_others(shares: list[Share]) -> list[Share]:
    kept, others = shares[:SHOWN], shares[SHOWN:]
    if not others:
        return kept
    return [*kept, Share(OTHERS, sum(each.downloads for each in others), sum(each.unique for each in others))]
