"""All pages, for the tests that look at each of them and for the screenshots."""

from dataclasses import dataclass
from typing import Literal

from tests.pages.seed import ADMIN, MAINTAINER, MEMBER, NEWCOMER, OWNER
from tests.pages.seed_packages import (
    ALL_YANKED,
    BARE,
    DEPRECATED,
    FOREIGN,
    LATEST,
    LONG,
    MAIN,
    MANY,
    PRERELEASE,
    QUARANTINED,
    YANKED,
)

_OLDER = "2.7.0"
_OF_LATEST = f"/packages/{MAIN}/{LATEST}"
WIDTHS = (360, 768, 1440)
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@dataclass(frozen=True)
class Page:
    """`user` is who is signed in, "" for a stranger. `name` is the name of its screenshots."""

    name: str
    path: str
    user: str = ""
    status: int = 200


PAGES = (
    Page("home", "/"),
    Page("search", "/search?q=http+retries"),
    Page("search-filtered", "/search?q=http&license=MIT&keyword=http&sort=downloads"),
    Page("search-misspelt", "/search?q=brok-http"),
    Page("search-nothing", "/search?q=qqqqqzzzz"),
    Page("search-start", "/search"),
    Page("search-explain", f"/search/explain?q=http+client&name={MAIN}"),
    Page("package", f"/packages/{MAIN}"),
    Page("package-yanked", f"/packages/{MAIN}/{YANKED}"),
    Page("package-deprecated", f"/packages/{DEPRECATED}"),
    Page("package-quarantined", f"/packages/{QUARANTINED}", status=403),
    Page("package-bare", f"/packages/{BARE}"),
    Page("package-foreign", f"/packages/{FOREIGN}"),
    Page("package-long", f"/packages/{LONG}"),
    Page("package-prerelease", f"/packages/{PRERELEASE}"),
    Page("package-all-yanked", f"/packages/{ALL_YANKED}"),
    Page("package-signed-in", f"/packages/{MAIN}", OWNER),
    Page("versions", f"/packages/{MAIN}/versions"),
    Page("versions-many", f"/packages/{MANY}/versions"),
    Page("dependencies", f"{_OF_LATEST}/dependencies"),
    Page("dependents", f"/packages/{MAIN}/dependents"),
    Page("dependents-none", f"/packages/{BARE}/dependents"),
    Page("files", f"{_OF_LATEST}/files"),
    Page("file-source", f"{_OF_LATEST}/files/src/client.py"),
    Page("file-readme", f"{_OF_LATEST}/files/README.md"),
    Page("file-binary", f"{_OF_LATEST}/files/src/tables.bin"),
    Page("file-picture", f"{_OF_LATEST}/files/docs/logo.png"),
    Page("file-big", f"{_OF_LATEST}/files/src/big.txt"),
    Page("diff", f"{_OF_LATEST}/diff/{_OLDER}"),
    Page("stats-package", f"/packages/{MAIN}/stats"),
    Page("stats-versions", f"/packages/{MAIN}/stats?range=365&group_by=version"),
    Page("stats-none", f"/packages/{BARE}/stats"),
    Page("stats", "/stats"),
    Page("user", f"/users/{OWNER}"),
    Page("user-new", f"/users/{NEWCOMER}"),
    Page("not-found", "/packages/brook-htp", status=404),
    Page("bad-query", f"/search?q={'x' * 513}", status=400),
    Page("login", "/login"),
    Page("register", "/register"),
    Page("reset", "/account/reset"),
    Page("verify", "/account/verify"),
    Page("docs", "/docs"),
    Page("docs-publishing", "/docs/publishing"),
    Page("docs-search", "/docs/search"),
    Page("docs-api", "/docs/api/packages"),
    Page("account", "/account", OWNER),
    Page("account-new", "/account", NEWCOMER),
    Page("account-password", "/account/password", OWNER),
    Page("account-factors", "/account/factors", OWNER),
    Page("account-tokens", "/account/tokens", OWNER),
    Page("account-sessions", "/account/sessions", OWNER),
    Page("account-invitations", "/account/invitations", OWNER),
    Page("account-webhooks", "/account/webhooks", OWNER),
    Page("account-webhook", "/account/webhooks/1", OWNER),
    Page("account-publishers", "/account/publishers", OWNER),
    Page("account-audit", "/account/audit", OWNER),
    Page("settings", f"/packages/{MAIN}/settings", OWNER),
    Page("settings-maintainer", f"/packages/{MAIN}/settings", MAINTAINER),
    Page("settings-forbidden", f"/packages/{MAIN}/settings", MEMBER, status=403),
    Page("admin", "/admin", ADMIN),
    Page("admin-users", "/admin/users", ADMIN),
    Page("admin-user", f"/admin/users/{OWNER}", ADMIN),
    Page("admin-reports", "/admin/reports", ADMIN),
    Page("admin-quarantine", "/admin/quarantine", ADMIN),
    Page("admin-names", "/admin/reserved-names", ADMIN),
    Page("admin-jobs", "/admin/jobs", ADMIN),
    Page("admin-health", "/admin/health", ADMIN),
    Page("admin-doctor", "/admin/doctor", ADMIN),
    Page("admin-audit", "/admin/audit", ADMIN),
    Page("admin-forbidden", "/admin", OWNER, status=403),
)
"""A page that needs another address than `path` is in the table once for each."""
