"""Let an event be about something other than a package"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("events", sa.Column("subject_type", sa.Text(), server_default="package", nullable=False))
    op.add_column("events", sa.Column("subject_id", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("events", "subject_id")
    op.drop_column("events", "subject_type")
