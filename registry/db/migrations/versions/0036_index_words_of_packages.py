"""Index the words of packages for searches without Elasticsearch"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    op.create_table(
        "package_words",
        sa.Column("package_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("analysis", sa.SmallInteger(), nullable=False),
        sa.Column("words", postgresql.TSVECTOR(), nullable=False),
        sa.PrimaryKeyConstraint("package_id", name="package_words_pkey"),
    )
    op.create_index("package_words_analysis_idx", "package_words", ["analysis", "package_id"])
    op.create_index("package_words_words_idx", "package_words", ["words"], postgresql_using="gin")


def downgrade() -> None:
    op.drop_table("package_words")
