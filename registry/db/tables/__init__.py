"""Every table. Constraints have names, since the code derives named errors from them."""

from registry.db.tables.accounts import api_tokens, password_failures, revoked_tokens, sign_in_networks, users
from registry.db.tables.base import metadata
from registry.db.tables.changes import change_checkpoints, change_keys, changes
from registry.db.tables.downloads import (
    dashboard_failures,
    day_clients,
    download_batches,
    download_days,
    downloads,
    package_clients,
    package_days,
    registry_days,
)
from registry.db.tables.events import (
    audit_entries,
    consumers,
    doctor_runs,
    events,
    index_failures,
    jobs,
    search_vectors,
)
from registry.db.tables.factors import (
    login_challenges,
    passkeys,
    recovery_codes,
    sessions,
    spent_challenges,
    totp_secrets,
    used_totp_steps,
)
from registry.db.tables.mail import mail_tokens
from registry.db.tables.packages import (
    dependents,
    idempotency_keys,
    invitations,
    package_owners,
    package_versions,
    package_words,
    packages,
    reports,
    reserved_names,
    totals,
)
from registry.db.tables.publishers import publishers, used_id_tokens
from registry.db.tables.webhooks import webhook_deliveries, webhooks

__all__ = [
    "api_tokens",
    "audit_entries",
    "change_checkpoints",
    "change_keys",
    "changes",
    "consumers",
    "dashboard_failures",
    "day_clients",
    "dependents",
    "doctor_runs",
    "download_batches",
    "download_days",
    "downloads",
    "events",
    "idempotency_keys",
    "index_failures",
    "invitations",
    "jobs",
    "login_challenges",
    "mail_tokens",
    "metadata",
    "package_clients",
    "package_days",
    "package_owners",
    "package_versions",
    "package_words",
    "packages",
    "passkeys",
    "password_failures",
    "publishers",
    "recovery_codes",
    "registry_days",
    "reports",
    "reserved_names",
    "revoked_tokens",
    "search_vectors",
    "sessions",
    "sign_in_networks",
    "spent_challenges",
    "totals",
    "totp_secrets",
    "used_id_tokens",
    "used_totp_steps",
    "users",
    "webhook_deliveries",
    "webhooks",
]
