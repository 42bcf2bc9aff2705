"""The event log, its consumers, the audit log, and background jobs."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import INET, JSONB

from registry.db.tables.base import metadata, now, text

events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("package_id", sa.BigInteger, sa.ForeignKey("packages.id"), index=True),
    sa.Column("package", sa.Text, nullable=False),
    sa.Column("version", sa.Text),
    sa.Column("actor_id", sa.BigInteger, sa.ForeignKey("users.id")),
    sa.Column("data", JSONB, nullable=False),
    now("created_at"),
    # What changed: a package (whose id is package_id), a user, a token.
    sa.Column("subject_type", sa.Text, nullable=False, server_default="package"),
    sa.Column("subject_id", sa.BigInteger),
)

consumers = sa.Table(
    "consumers",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    now("updated_at"),
    # Why the last batch failed. It counts only while `failed_at` is after `updated_at`.
    sa.Column("failure", sa.Text),
    sa.Column("failed_at", sa.DateTime(timezone=True)),
)

# Background jobs; see registry/jobs/queue.py.
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    # Two live jobs of the same kind never have the same key.
    sa.Column("key", sa.Text),
    sa.Column("payload", JSONB, nullable=False, server_default="{}"),
    sa.Column(
        "state",
        sa.Text,
        sa.CheckConstraint("state IN ('queued', 'running', 'dead')", "jobs_state_check"),
        nullable=False,
        server_default="queued",
    ),
    # When the job may be leased. For a running job this is the end of its lease.
    now("run_at"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # NULL: a periodic job, which is retried without limit.
    sa.Column("max_attempts", sa.Integer),
    sa.Column("lease", sa.Uuid),
    text("leased_by"),
    text("last_error"),
    # When a periodic job last succeeded.
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    now("created_at"),
    now("updated_at"),
)
_LIVE = jobs.c.state != "dead"

sa.Index("jobs_key_idx", jobs.c.kind, jobs.c.key, unique=True, postgresql_where=sa.and_(jobs.c.key.is_not(None), _LIVE))
sa.Index("jobs_due_idx", jobs.c.kind, jobs.c.run_at, postgresql_where=_LIVE)

# Who did what; see registry/events/audit.py. A trigger refuses changes (migration 0013). The ids have no foreign keys,
# since an entry outlives what it names.
audit_entries = sa.Table(
    "audit_entries",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now(), index=True),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("actor_id", sa.BigInteger),
    sa.Column("token_id", sa.BigInteger),
    text("token_name"),
    sa.Column("publisher", JSONB),
    sa.Column("ip", INET),
    text("user_agent"),
    # The user whom the act is about, such as the one whose login failed.
    sa.Column("account_id", sa.BigInteger),
    sa.Column("package_id", sa.BigInteger),
    sa.Column("version", sa.Text),
    sa.Column("details", JSONB, nullable=False),
)
for _of in ("package_id", "account_id", "actor_id"):
    sa.Index(f"audit_entries_{_of}_idx", audit_entries.c[_of], audit_entries.c.id.desc())
# The last sign-in of a user.
sa.Index(
    "audit_entries_sign_in_idx",
    audit_entries.c.account_id,
    audit_entries.c.id.desc(),
    postgresql_where=audit_entries.c.action == "login.succeed",
)

# The last runs of the doctor; see registry/doctor/runs/keep.py. `report` is the JSON of the report.
doctor_runs = sa.Table(
    "doctor_runs",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    now("finished_at"),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("is_deep", sa.Boolean, nullable=False),
    sa.Column("report", JSONB, nullable=False),
)

index_failures = sa.Table(
    "index_failures",
    metadata,
    sa.Column("document", sa.Text, primary_key=True),
    sa.Column("package", sa.Text, nullable=False, index=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    now("failed_at"),
)
search_vectors = sa.Table(
    "search_vectors",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("package", sa.Text, primary_key=True),
    sa.Column("text_hash", sa.LargeBinary, nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),
)
