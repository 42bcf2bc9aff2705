"""Runs the migrations on the connection that `migrate.upgrade()` provides.

How to write a revision (names are `NNNN_what_it_does.py`, numbered without gaps; the docstring is shown as progress):

- Each revision runs in a transaction of its own. A statement that waits for a lock longer than
  `migrate.LOCK_TIMEOUT` ends the transaction, and the whole revision is tried again after a pause. So requests never
  queue behind a migration for longer than that.
- Only add: the former release still runs on the new schema. A new column is nullable or has a constant default; a new
  constraint or unique index covers only columns that are new in this revision.
- Do the work under a strong lock last, and keep it short: `ALTER TABLE` locks out readers until the commit.
- An index on a table of an earlier revision is built by `registry.db.migrations.online.create_index()`, which locks
  out nobody. It cannot run in a transaction, so such a revision does nothing else.
- Fill large columns in batches from a job of the release, not in the revision.
"""

from alembic import context

config = context.config
context.configure(
    connection=config.attributes["connection"],
    target_metadata=config.attributes["metadata"],
    compare_type=True,
    compare_server_default=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
