"""Fixtures of the storage tests: both storages, source files, and a client that looks at the S3 server directly."""

import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiobotocore.session import get_session

from registry.storage.base import Storage
from registry.storage.local import open_local
from registry.storage.s3 import open_s3

# Shared by all tests, because parsing the description of S3 takes long.
SESSION = get_session()


@dataclass(frozen=True)
class Source:
    """A file to store, and the arguments of a put. `in_memory` has the same for its bytes."""

    path: Path
    data: bytes

    @property
    def facts(self) -> dict[str, object]:
        return {"source": self.path, "size": len(self.data), "sha256": hashlib.sha256(self.data).hexdigest()}

    @property
    def in_memory(self) -> dict[str, object]:
        return {**self.facts, "source": self.data}


@pytest.fixture
def source(tmp_path: Path):
    """Creates a spool file with the given bytes."""
    folder = tmp_path / "spool"
    folder.mkdir()

    def make(data: bytes) -> Source:
        path = folder / uuid.uuid4().hex
        path.write_bytes(data)
        return Source(path, data)

    return make


@pytest.fixture
async def s3_client(s3) -> AsyncIterator[object]:
    """An S3 client that shows what the storage left on the server."""
    async with SESSION.create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=s3.url,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    ) as client:
        yield client


@pytest.fixture
async def bucket(s3_client) -> str:
    name = f"test-{uuid.uuid4().hex}"
    await s3_client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def s3_settings(s3, bucket) -> dict[str, object]:
    return {
        "bucket": bucket,
        "region": "us-east-1",
        "endpoint": s3.url,
        "access_key": s3.access_key,
        "secret_key": s3.secret_key,
    }


@pytest.fixture
async def s3_storage(s3_settings) -> AsyncIterator[Storage]:
    async with open_s3(**s3_settings, prefix="tarballs") as storage:
        await storage.detect_features()  # so that tests see no object of the detection
        yield storage


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
async def local_storage(root: Path) -> AsyncIterator[Storage]:
    async with open_local(root) as storage:
        yield storage


@pytest.fixture(params=["local", "s3"])
def kind(request) -> str:
    return request.param


@pytest.fixture
def storage(kind: str, request) -> Storage:
    return request.getfixturevalue(f"{kind}_storage")


@pytest.fixture
def leftovers(kind: str, request) -> Callable[[], Awaitable[list[str]]]:
    """Returns the names of unfinished uploads."""
    if kind == "local":
        folder = request.getfixturevalue("root") / "tmp"

        async def files() -> list[str]:
            return [path.name for path in folder.iterdir()]

        return files

    client, bucket = request.getfixturevalue("s3_client"), request.getfixturevalue("bucket")

    async def uploads() -> list[str]:
        answer = await client.list_multipart_uploads(Bucket=bucket)
        return [upload["Key"] for upload in answer.get("Uploads", ())]

    return uploads
