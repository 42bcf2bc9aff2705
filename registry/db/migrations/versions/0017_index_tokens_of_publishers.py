"""Find the tokens of a trusted publisher"""

from alembic import op

from registry.db.migrations import online

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    online.create_index("api_tokens_publisher_id_idx", "api_tokens", ["publisher_id"])


def downgrade() -> None:
    op.drop_index("api_tokens_publisher_id_idx", table_name="api_tokens")
