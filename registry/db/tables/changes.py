"""The log of changes; the modules in registry/changes/ explain it."""

import sqlalchemy as sa

from registry.db.tables.base import metadata

# The hash chain over those events that are changes of packages. It has no foreign key: if an event is removed, its link
# must stay, so that the loss is found.
changes = sa.Table(
    "changes",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)

# Signed states of the chain.
change_checkpoints = sa.Table(
    "change_checkpoints",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("signature", sa.LargeBinary, nullable=False),
)

# The public keys that sign checkpoints. `voucher` is the signature of a new key by the key before it.
change_keys = sa.Table(
    "change_keys",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("key_id", sa.Text, nullable=False, unique=True),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("vouched_by", sa.Text),
    sa.Column("voucher", sa.LargeBinary),
)
