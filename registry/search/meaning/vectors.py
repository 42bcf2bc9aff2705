"""Adds vectors to the documents of packages. PostgreSQL keeps each vector until the text of its package changes."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

from registry.db.engine import Database
from registry.search.documents import PACKAGES
from registry.search.meaning import store
from registry.search.meaning.encoder import Encoder
from registry.search.meaning.model import text_of
from registry.search.writes import Write


async def add_vectors(db: Database, encoder: Encoder, writes: Sequence[Write]) -> list[Write]:
    """`writes`, in which the documents of packages have their vectors. Documents of single versions have none.

    Encodes the texts that are new, outside of any transaction. Raises DatabaseUnavailable.
    """
    texts = {
        each.package: text_of(each.document["name"], each.document["description"])
        for each in writes
        if each.kind == PACKAGES and each.document is not None
    }
    vectors = await _vectors(db, encoder, texts) if texts else {}
    return [
        replace(each, document={**each.document, encoder.field: encoder.vector(vectors[each.package]).value})
        if each.kind == PACKAGES and each.document is not None
        else each
        for each in writes
    ]


async def _vectors(db: Database, encoder: Encoder, texts: dict[str, str]) -> dict[str, bytes]:
    hashes = {name: blake2b(text.encode(), digest_size=16).digest() for name, text in texts.items()}
    async with db.read() as conn:
        rows = await store.named(conn, encoder.model_id, list(texts))
    found = {row.package: bytes(row.vector) for row in rows if bytes(row.text_hash) == hashes[row.package]}
    new = [name for name in texts if name not in found]
    if new:
        made = dict(zip(new, await encoder.of_texts([texts[name] for name in new]), strict=True))
        async with db.transaction() as conn:
            await store.save(conn, encoder.model_id, [(name, hashes[name], made[name]) for name in new])
        found |= made
    return found


async def purge(db: Database, encoder: Encoder | None) -> int:
    """Removes vectors that nothing uses any more: all of them without a model. Returns their number."""
    async with db.transaction() as conn:
        return await store.purge(conn, encoder.model_id if encoder else "")
