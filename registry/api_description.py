"""What the API description says besides the routes: the groups of operations, parameters in paths, and credentials."""

from typing import Any

from registry.downloads.statistics import handlers as statistics
from registry.package_format import names, versions
from registry.web.route import BEARER

# The groups of operations, in the order of the page.
TAGS = {
    "Packages": "Publish, read, change and delete packages and their versions.",
    "Downloads": "Fetch tarballs, and see how often they were fetched.",
    "Search": "Find packages, and wait until a new version is found.",
    "Owners": "Who may publish a package: owners, maintainers and invitations.",
    "Trusted publishers": "CI jobs that publish without a stored token.",
    "Accounts": "Register, sign in, and manage your account and its API tokens.",
    "Second factors": "Authenticator apps, recovery codes and passkeys.",
    "Mail": "Verify e-mail addresses and reset passwords. Without a mail server these answer 501.",
    "Changes": "The log of all changes, for mirrors and followers. Its entries are chained by hashes and signed.",
    "Webhooks": "HTTP requests that the registry sends when packages change.",
    "Reports": "Reports of malware and spam.",
    "Audit": "Who did what, when and from where.",
    "Operations": "Health, metrics and this description.",
}
PATH_PARAMETERS: dict[str, Any] = {
    "name": {
        "name": "name", "in": "path", "required": True, "description": "Package name", "example": "hello-world",
        "schema": {"type": "string", "pattern": names.PATTERN},
    },
    "version": {
        "name": "version", "in": "path", "required": True, "description": "A version; `latest` works for reading",
        "example": "1.0.0",
        "schema": {"type": "string", "maxLength": versions.MAX_VERSION, "pattern": r"^[0-9A-Za-z.+-]+$"},
    },
    "badge": {
        "name": "badge", "in": "path", "required": True, "description": "What the badge shows", "example": "version",
        "schema": {"type": "string", "enum": list(statistics.BADGES)},
    },
    "username": {
        "name": "username", "in": "path", "required": True, "description": "User name, in any case", "example": "ada",
        "schema": {"type": "string", "minLength": 3, "maxLength": 50},
    },
    "id": {
        "name": "id", "in": "path", "required": True, "description": "Number of the resource", "example": 42,
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999_999_999_999},
    },
}  # fmt: skip

SECURITY_SCHEMES: dict[str, Any] = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of POST /api/v1/auth/login, or an API token (syn_…)",
    }
}
