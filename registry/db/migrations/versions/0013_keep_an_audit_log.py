"""Keep an audit log that can't be changed"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import INET, JSONB

from registry.db.migrations.online import create_index

revision = "0013"
down_revision = "0012"

# The retention job sets registry.audit_retention in its transaction. It is the only one that may delete entries.
_REFUSE = """
CREATE FUNCTION refuse_audit_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('registry.audit_retention', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'entries of the audit log can''t be changed' USING ERRCODE = 'insufficient_privilege';
END $$
"""


def upgrade() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.BigInteger(), nullable=True),
        sa.Column("token_id", sa.BigInteger(), nullable=True),
        sa.Column("token_name", sa.Text(), server_default="", nullable=False),
        sa.Column("publisher", JSONB(), nullable=True),
        sa.Column("ip", INET(), nullable=True),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=True),
        sa.Column("package_id", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("details", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="audit_entries_pkey"),
    )
    op.execute(_REFUSE)
    op.execute(
        "CREATE TRIGGER audit_entries_are_final BEFORE UPDATE OR DELETE ON audit_entries "
        "FOR EACH ROW EXECUTE FUNCTION refuse_audit_changes()"
    )
    op.execute(
        "CREATE TRIGGER audit_entries_are_kept BEFORE TRUNCATE ON audit_entries "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_changes()"
    )
    create_index("audit_entries_at_idx", "audit_entries", ["at"])
    create_index("audit_entries_package_id_idx", "audit_entries", ["package_id", sa.text("id DESC")])
    create_index("audit_entries_account_id_idx", "audit_entries", ["account_id", sa.text("id DESC")])
    create_index("audit_entries_actor_id_idx", "audit_entries", ["actor_id", sa.text("id DESC")])


def downgrade() -> None:
    op.drop_table("audit_entries")
    op.execute("DROP FUNCTION refuse_audit_changes()")
