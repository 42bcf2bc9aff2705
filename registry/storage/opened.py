"""Opens the storage that the settings choose."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from registry.setting_parts import StorageSettings
from registry.storage.base import Storage
from registry.storage.local import open_local
from registry.storage.s3 import open_s3


@asynccontextmanager
async def open_storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    """Raises StorageUnavailable if the folder or the client can't be created."""
    if settings.type == "local":
        async with open_local(settings.path) as local:
            yield local
        return
    async with open_s3(
        bucket=settings.s3_bucket,
        region=settings.s3_region,
        endpoint=settings.s3_endpoint or None,
        public_endpoint=settings.s3_public_endpoint or None,
        access_key=settings.s3_access_key or None,
        secret_key=settings.s3_secret_key or None,
        ca=Path(settings.s3_ca) if settings.s3_ca else None,
        prefix=settings.s3_prefix,
    ) as remote:
        yield remote
