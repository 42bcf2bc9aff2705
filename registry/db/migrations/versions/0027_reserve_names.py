"""Reserve names, and keep the last runs of the doctor"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0027"
down_revision = "0026"

_NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "reserved_names",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("similarity_key", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="reserved_names_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="reserved_names_pkey"),
        sa.UniqueConstraint("similarity_key", name="reserved_names_similarity_key_key"),
    )
    op.create_table(
        "doctor_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("is_deep", sa.Boolean(), nullable=False),
        sa.Column("report", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="doctor_runs_pkey"),
    )


def downgrade() -> None:
    op.drop_table("doctor_runs")
    op.drop_table("reserved_names")
