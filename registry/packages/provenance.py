"""Where a version comes from: the CI job that published it."""

from typing import Any

from typing_extensions import TypedDict

from registry.accounts.identity import Principal


class Provenance(TypedDict):
    """The CI job that published a version. What its ID token didn't say is null."""

    kind: str
    issuer: str
    repository: str | None
    commit: str | None
    ref: str | None
    workflow: str | None
    run_url: str | None


def provenance_of(who: Principal) -> dict[str, Any] | None:
    """The provenance of what `who` publishes, None for a user.

    It comes with the credentials, so a manifest can't claim it.
    """
    if who.publisher is None:
        return None
    return {name: who.publisher.get(name) for name in Provenance.__annotations__}
