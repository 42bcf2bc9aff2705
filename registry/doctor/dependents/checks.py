"""The check that packages are listed as dependents by their latest versions."""

from registry.doctor.check import Check, Registry, reading
from registry.doctor.dependents import store

PAGE = 500


async def _list_again(registry: Registry) -> None:
    async with registry.db.read() as conn:
        wrong = await store.wrong_packages(conn)
    for first in range(0, len(wrong), PAGE):
        async with registry.db.transaction() as conn:
            await store.list_again(conn, wrong[first : first + PAGE])


CHECKS = (
    Check(
        "dependents",
        "the lists of dependents match the dependencies of the latest versions",
        "list the dependencies of these packages again",
        reading(store.differences),
        _list_again,
    ),
)
