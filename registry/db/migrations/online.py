"""Schema changes that lock out neither readers nor writers."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

_INVALID = sa.text("SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid")


def create_index(name: str, table: str, columns: Sequence[str | sa.TextClause], **options: Any) -> None:
    """Builds an index by CREATE INDEX CONCURRENTLY; `options` are those of `op.create_index()`.

    The build waits until all older transactions have ended. No other statement waits for the build.
    An interrupted build leaves an invalid index. The next try drops it and builds it again.
    """
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        connection.execute(sa.text("SET lock_timeout = 0"))
        if connection.execute(_INVALID, {"name": name}).first():
            op.drop_index(name, table_name=table, postgresql_concurrently=True)
        op.create_index(name, table, list(columns), postgresql_concurrently=True, if_not_exists=True, **options)
