"""Create the table of package owners"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

# The release before this one writes packages.owner_id alone. The trigger gives each new package its owner, whichever
# release inserts it.
ADD_OWNER = """
CREATE FUNCTION add_package_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO package_owners (package_id, user_id, role, since)
    VALUES (NEW.id, NEW.owner_id, 'owner', NEW.created_at)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "package_owners",
        sa.Column("package_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("role IN ('owner', 'maintainer')", name="package_owners_role_check"),
        sa.ForeignKeyConstraint(
            ["package_id"], ["packages.id"], name=op.f("package_owners_package_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("package_owners_user_id_fkey")),
        sa.PrimaryKeyConstraint("package_id", "user_id", name=op.f("package_owners_pkey")),
    )
    op.create_index(op.f("package_owners_user_id_idx"), "package_owners", ["user_id"])
    op.execute(ADD_OWNER)
    op.execute("""
        CREATE TRIGGER add_package_owner AFTER INSERT ON packages
        FOR EACH ROW EXECUTE FUNCTION add_package_owner()
    """)


def downgrade() -> None:
    op.execute("DROP FUNCTION add_package_owner() CASCADE")
    op.drop_table("package_owners")
