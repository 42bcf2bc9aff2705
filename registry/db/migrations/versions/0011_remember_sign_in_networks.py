"""Remember the networks from which accounts signed in"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "sign_in_networks",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("signed_in_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("sign_in_networks_pkey")),
    )
    op.create_index(op.f("sign_in_networks_account_idx"), "sign_in_networks", ["account"], unique=False)
    op.create_index(op.f("sign_in_networks_signed_in_at_idx"), "sign_in_networks", ["signed_in_at"], unique=False)


def downgrade() -> None:
    op.drop_table("sign_in_networks")
