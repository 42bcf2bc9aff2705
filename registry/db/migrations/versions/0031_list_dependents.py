"""List the packages that depend on a package"""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"

# A trigger keeps the table correct while an earlier release, which doesn't know it, still writes. The releases that it
# sees most often have the dependencies of the release before, so it compares them first.
LIST_DEPENDENTS = """
CREATE FUNCTION list_dependents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF EXISTS (
            SELECT FROM package_versions former, package_versions latest
            WHERE former.id = OLD.latest_version_id AND latest.id = NEW.latest_version_id
              AND former.dependencies_json = latest.dependencies_json
        ) THEN
            RETURN NULL;
        END IF;
        DELETE FROM dependents WHERE package_id = NEW.id;
    END IF;
    INSERT INTO dependents (dependency, dependent, package_id, range)
    SELECT DISTINCT ON (1) replace(d.key, '_', '-'), NEW.name, NEW.id, d.value
    FROM package_versions v CROSS JOIN LATERAL jsonb_each_text(v.dependencies_json) d
    WHERE v.id = NEW.latest_version_id
    ORDER BY 1, d.key;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "dependents",
        sa.Column("dependency", sa.Text(collation="C"), nullable=False),
        sa.Column("dependent", sa.Text(collation="C"), nullable=False),
        sa.Column("package_id", sa.BigInteger(), nullable=False),
        sa.Column("range", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name="dependents_package_id_fkey", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("dependency", "dependent", name="dependents_pkey"),
    )
    op.create_index("dependents_package_id_idx", "dependents", ["package_id"])
    op.execute(LIST_DEPENDENTS)
    op.execute("""
        CREATE TRIGGER list_dependents_added AFTER INSERT ON packages FOR EACH ROW
        WHEN (NEW.latest_version_id IS NOT NULL) EXECUTE FUNCTION list_dependents()
    """)
    op.execute("""
        CREATE TRIGGER list_dependents_changed AFTER UPDATE OF latest_version_id ON packages FOR EACH ROW
        WHEN (OLD.latest_version_id IS DISTINCT FROM NEW.latest_version_id) EXECUTE FUNCTION list_dependents()
    """)


def downgrade() -> None:
    op.execute("DROP FUNCTION list_dependents() CASCADE")
    op.drop_table("dependents")
