"""List the dependents among the existing packages"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"

BATCH = 2_000
# The lock keeps out publishes to the packages of a batch. A package that changed before the lock was granted has a
# latest version that this statement's snapshot lacks, so only the trigger of revision 0031 lists its dependencies.
FILL = """
WITH chosen AS MATERIALIZED (
    SELECT id, name, latest_version_id FROM packages WHERE id > :after AND id <= :until FOR NO KEY UPDATE
)
INSERT INTO dependents (dependency, dependent, package_id, range)
SELECT DISTINCT ON (1, 2) replace(d.key, '_', '-'), chosen.name, chosen.id, d.value
FROM chosen JOIN package_versions v ON v.id = chosen.latest_version_id
CROSS JOIN LATERAL jsonb_each_text(v.dependencies_json) d
ORDER BY 1, 2, d.key
ON CONFLICT DO NOTHING
"""


def upgrade() -> None:
    # Each batch commits at once, so that a publish waits for one batch at most. A repeated batch changes nothing.
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        last = connection.execute(sa.text("SELECT coalesce(max(id), 0) FROM packages")).scalar_one()
        for after in range(0, last, BATCH):
            connection.execute(sa.text(FILL), {"after": after, "until": after + BATCH})


def downgrade() -> None:
    op.execute("DELETE FROM dependents")
