"""The metadata that all tables share, and columns that many of them have."""

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
    }
)


def now(name: str) -> sa.Column[object]:
    """A time that is the time of the insert unless the statement says otherwise."""
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())


def text(name: str) -> sa.Column[str]:
    """A text that is empty unless the statement says otherwise."""
    return sa.Column(name, sa.Text, nullable=False, server_default="")
