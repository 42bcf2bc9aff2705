"""Index the sign-ins of users"""

import sqlalchemy as sa
from alembic import op

from registry.db.migrations.online import create_index

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    create_index(
        "audit_entries_sign_in_idx",
        "audit_entries",
        ["account_id", sa.text("id DESC")],
        postgresql_where=sa.text("action = 'login.succeed'"),
    )


def downgrade() -> None:
    op.drop_index("audit_entries_sign_in_idx", table_name="audit_entries")
