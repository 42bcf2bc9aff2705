"""Webhooks and their deliveries; the modules in registry/webhooks/ explain them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from registry.db.tables.base import metadata

_NOW = sa.func.now()


def _time(name: str, *, now: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=not now, server_default=_NOW if now else None)


webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("url", sa.Text, nullable=False),
    # Host and port of the URL. One job delivers to all webhooks of a host.
    sa.Column("host", sa.Text, nullable=False, index=True),
    sa.Column(
        "scope", sa.Text, sa.CheckConstraint("scope IN ('package', 'owner', 'all')", "webhooks_scope"), nullable=False
    ),
    sa.Column("package_id", sa.BigInteger, sa.ForeignKey("packages.id"), index=True),
    sa.Column("events", ARRAY(sa.Text), nullable=False),
    sa.Column("description", sa.Text, nullable=False, server_default=""),
    # Secrets are encrypted. The old one also signs until `old_secret_until`.
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("old_secret", sa.Text),
    _time("old_secret_until"),
    # Only later changes are delivered.
    sa.Column("since_seq", sa.BigInteger, nullable=False),
    # Whether the maker had a role in the package when the consumer last looked.
    sa.Column("has_role", sa.Boolean, nullable=False, server_default=sa.true()),
    # The last attempt failed or took long, so a job of its own delivers to this webhook.
    sa.Column("is_slow", sa.Boolean, nullable=False, server_default=sa.false()),
    # When the first attempt after the last success failed.
    _time("failing_since"),
    _time("disabled_at"),
    sa.Column("disabled_reason", sa.Text, nullable=False, server_default=""),
    _time("deleted_at"),
    _time("created_at", now=True),
    _time("updated_at", now=True),
)

webhook_deliveries = sa.Table(
    "webhook_deliveries",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    # The id that the receiver sees.
    sa.Column("message_id", sa.Uuid, nullable=False, unique=True, server_default=sa.text("gen_random_uuid()")),
    sa.Column("webhook_id", sa.BigInteger, sa.ForeignKey("webhooks.id"), nullable=False),
    # The change; NULL for a ping.
    sa.Column("seq", sa.BigInteger),
    sa.Column("type", sa.Text, nullable=False),
    # Whether a user asked for it. The consumer makes at most one delivery of a change to a webhook.
    sa.Column("is_repeat", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column(
        "state",
        sa.Text,
        sa.CheckConstraint("state IN ('pending', 'delivered', 'failed')", "webhook_deliveries_state"),
        nullable=False,
        server_default="pending",
    ),
    _time("due_at", now=True),
    # Attempts since the delivery was made, or since a user asked to deliver it again.
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    # The newest attempts, as the API shows them.
    sa.Column("attempts", JSONB, nullable=False, server_default="[]"),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW, index=True),
)
_d = webhook_deliveries.c
sa.Index("webhook_deliveries_change_idx", _d.webhook_id, _d.seq, unique=True, postgresql_where=~_d.is_repeat)
sa.Index("webhook_deliveries_due_idx", _d.webhook_id, _d.due_at, postgresql_where=_d.state == "pending")
sa.Index("webhook_deliveries_list_idx", _d.webhook_id, _d.id)
