"""Links of a version's provenance, built from the address of the CI job."""

from dataclasses import dataclass

from registry.packages.provenance import Provenance
from registry.pages.text import address

SHOWN_DIGITS = 7
# Between the repository and the commit in an address.
_COMMIT_PATHS = {"github": "commit", "gitlab": "-/commit"}


@dataclass(frozen=True, slots=True)
class ShownProvenance:
    """What a page shows of a provenance. Addresses are "" if there are none. `commit` is short."""

    workflow: str
    repository: str
    repository_url: str
    commit: str
    commit_url: str
    run_url: str
    ref: str
    issuer: str


def shown(provenance: Provenance | None) -> ShownProvenance | None:
    if provenance is None:
        return None
    run_url, repository = address(provenance["run_url"] or ""), provenance["repository"] or ""
    host, found, _ = run_url.partition(f"/{repository}/") if repository else ("", "", "")
    repository_url = f"{host}/{repository}" if found else ""
    commit, path = provenance["commit"] or "", _COMMIT_PATHS.get(provenance["kind"], "")
    return ShownProvenance(
        workflow=provenance["workflow"] or "",
        repository=repository,
        repository_url=repository_url,
        commit=commit[:SHOWN_DIGITS],
        commit_url=f"{repository_url}/{path}/{commit}" if repository_url and commit and path else "",
        run_url=run_url,
        ref=provenance["ref"] or "",
        issuer=provenance["issuer"],
    )
