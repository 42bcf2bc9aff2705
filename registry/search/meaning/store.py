"""The SQL of the vectors of packages, which are kept so that no text is encoded twice."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import packages, search_vectors

_c = search_vectors.c
_NAMED = statement(
    sa.select(_c.package, _c.text_hash, _c.vector).where(
        _c.model == p("model"), _c.package == sa.any_(sa.cast(p("names"), ARRAY(sa.Text)))
    )
)
# The order of the rows keeps two processes that save the same packages from waiting for each other in a circle.
_SAVE = statement(
    sa.text("""
    INSERT INTO search_vectors (model, package, text_hash, vector)
    SELECT :model, * FROM unnest(CAST(:names AS text[]), CAST(:hashes AS bytea[]), CAST(:vectors AS bytea[]))
        AS v (package, text_hash, vector)
    ORDER BY package
    ON CONFLICT (model, package) DO UPDATE SET text_hash = excluded.text_hash, vector = excluded.vector
    """)
)
_PURGE = statement(
    sa.delete(search_vectors).where(
        sa.or_(
            _c.model != p("model"),
            ~sa.select(packages.c.id)
            .where(packages.c.name == _c.package, packages.c.latest_version_id.is_not(None))
            .exists(),
        )
    )
)


async def named(conn: Connection, model: str, names: Sequence[str]) -> list[Row]:
    """package, text_hash and vector of those of `names` that the model has encoded."""
    return await conn.all(_NAMED, model=model, names=list(names))


async def save(conn: Connection, model: str, rows: Sequence[tuple[str, bytes, bytes]]) -> None:
    """Saves (package, hash of its text, vector). Replaces earlier ones of the same packages."""
    names, hashes, vectors = zip(*rows, strict=True)
    await conn.run(_SAVE, model=model, names=list(names), hashes=list(hashes), vectors=list(vectors))


async def purge(conn: Connection, model: str) -> int:
    """Removes the vectors of other models, and those of packages that have no version. Returns their number."""
    return await conn.run(_PURGE, model=model)
