"""Take the times of deprecations from the event log"""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.execute("""
        UPDATE packages SET deprecated_at = (
            SELECT max(created_at) FROM events WHERE package_id = packages.id AND type = 'package.deprecated'
        ) WHERE deprecated IS NOT NULL
    """)


def downgrade() -> None:
    pass
