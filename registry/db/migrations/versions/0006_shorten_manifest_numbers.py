"""Shorten long numbers in stored manifests

PostgreSQL returns the numbers of a JSONB column with all their digits: 1e-300 has 300. A manifest of 1 MiB can become
45 MB. This revision writes manifest_text for manifests with such numbers only. All others are still read from the JSONB
column.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

LONG_NUMBER = "[0-9]{20}"


def upgrade() -> None:
    conn = op.get_bind()
    ids = conn.execute(
        sa.text("SELECT id FROM package_versions WHERE manifest_text IS NULL AND manifest::text ~ :long ORDER BY id"),
        {"long": LONG_NUMBER},
    ).scalars()
    # One at a time, because a single text may have 45 MB.
    for version_id in list(ids):
        stored = conn.execute(
            sa.text("SELECT manifest::text FROM package_versions WHERE id = :id"), {"id": version_id}
        ).scalar_one()
        conn.execute(
            sa.text("UPDATE package_versions SET manifest_text = :text WHERE id = :id"),
            {"id": version_id, "text": json.dumps(json.loads(stored, parse_int=number), ensure_ascii=False)},
        )


def number(digits: str) -> int | float:
    """The number that was published, from its digits in the JSONB column.

    Earlier releases refused integers beyond 64 bits. A longer integer therefore comes from a float such as 1e30, so it
    becomes a float again.
    """
    return int(digits) if len(digits) < 20 and -(2**63) <= int(digits) < 2**63 else float(digits)


def downgrade() -> None:
    """Nothing to do: the downgrade of revision 0005 drops the column."""
