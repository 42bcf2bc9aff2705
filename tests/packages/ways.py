"""Helpers that publish with each of the three kinds of body, and that read what a publish has stored."""

import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from registry.db.engine import Statement
from registry.keys import DB, SETTINGS, STORAGE
from tests.client import Answer, Registry, User, tarball

Way = Callable[..., Awaitable[Answer]]


def form(*parts: tuple[str, bytes, str]) -> aiohttp.FormData:
    """A multipart/form-data body of (name, content, content type)."""
    body = aiohttp.FormData(default_to_multipart=True)
    for name, content, kind in parts:
        body.add_field(name, content, content_type=kind, filename=f"{name}.bin" if name == "tarball" else None)
    return body


def metadata_part(fields: dict[str, Any]) -> tuple[str, bytes, str]:
    return "metadata", json.dumps(fields).encode(), "application/json"


def tarball_part(data: bytes) -> tuple[str, bytes, str]:
    return "tarball", data, "application/gzip"


async def by_json(user: User, fields: dict[str, Any], data: bytes, *, query: str = "", headers: Any = None) -> Answer:
    body = {**fields, "tarball": base64.b64encode(data).decode()}
    return await user.call("POST", f"/packages{query}", json=body, headers=headers or {})


async def by_multipart(
    user: User, fields: dict[str, Any], data: bytes, *, query: str = "", headers: Any = None
) -> Answer:
    body = form(metadata_part(fields), tarball_part(data))
    return await user.call("POST", f"/packages{query}", data=body, headers=headers or {})


async def by_put(user: User, fields: dict[str, Any], data: bytes, *, query: str = "", headers: Any = None) -> Answer:
    return await user.put(fields["name"], fields["version"], data=data, query=query, headers=headers)


WAYS: dict[str, Way] = {"json": by_json, "multipart": by_multipart, "put": by_put}


def package(name: str = "demo", version: str = "1.0.0", **more: Any) -> tuple[dict[str, Any], bytes]:
    """Returns (fields of the request, tarball with the same fields in its manifest)."""
    fields = {"name": name, "version": version, "description": f"About {name}", **more}
    return fields, tarball(fields)


async def value(registry: Registry, sql: str) -> Any:
    async with registry.app[DB].read() as conn:
        return await conn.value(Statement(sql, {}))


async def blobs(registry: Registry) -> list[str]:
    return [blob.key async for blob in registry.app[STORAGE].list()]


def spooled(registry: Registry) -> list[Path]:
    """The spool files of running uploads, and those that were not removed. Journals of downloads are left out."""
    files = registry.app[SETTINGS].limits.spool_path.rglob("*")
    others = (".lock", ".downloads")
    return [file for file in files if file.is_file() and file.suffix not in others and file.name != "lock"]


async def stored(registry: Registry) -> tuple[int, int, int, int]:
    """The numbers of (packages, versions, events, blobs)."""
    counts = [
        await value(registry, f"SELECT count(*) FROM {table}") for table in ("packages", "package_versions", "events")
    ]
    return (*counts, len(await blobs(registry)))
