"""Make the owner of each existing package its first owner"""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    # The trigger of revision 0007 already covers packages that are published while this statement runs.
    op.execute("""
        INSERT INTO package_owners (package_id, user_id, role, since)
        SELECT id, owner_id, 'owner', created_at FROM packages
        ON CONFLICT DO NOTHING
    """)


def downgrade() -> None:
    pass
