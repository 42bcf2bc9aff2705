"""Tests of the local storage only: paths, links, file modes and full disks."""

import errno
import os
import random
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import StorageUnavailable
from registry.storage.base import BlobExists, InvalidKey
from registry.storage.local import LocalStorage, open_local

KEY = "my-lib/1.0.0/abc-1.tar.gz"

segments = st.sampled_from(["..", ".", "", "a", "b.c", "~", "secret", "outside", "\0", "\\", "..\\", "C:", "tmp", " "])
keys = st.one_of(
    st.text(max_size=40),
    st.lists(segments, max_size=6).map("/".join),
    st.lists(segments, max_size=6).map(lambda parts: "/" + "/".join(parts)),
    st.from_regex(r"[a-z0-9][a-z0-9.+-]{0,5}(/[a-z0-9][a-z0-9.+-]{0,5}){0,3}", fullmatch=True),
)


def snapshot(folder: Path, without: Path) -> dict[str, bytes | None]:
    """Every file and folder with its content, except those below `without`."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path != without and without not in path.parents
    }


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sandbox")
    for name in ("secret", "outside"):
        (folder / name).write_text(name)
    return folder


@given(key=keys)
@settings(max_examples=150, deadline=None)
async def test_no_key_leads_to_a_file_outside_the_root(sandbox, key):
    root, spool = sandbox / "root", sandbox / "spool"
    spool.write_bytes(b"spooled")
    storage = LocalStorage(root)
    before = snapshot(sandbox, without=root)
    try:
        await storage.put(key, spool, size=7, sha256="")
    except InvalidKey:
        with pytest.raises(InvalidKey):
            await storage.delete(key)
        with pytest.raises(InvalidKey):
            async with storage.open(key):
                pass
    except BlobExists:
        assert (root / "blobs" / key).is_dir()  # an earlier example created this folder
    else:
        assert (root / "blobs" / key).resolve().is_relative_to(root / "blobs")
        assert (root / "blobs" / key).read_bytes() == b"spooled"
        await storage.delete(key)
    assert snapshot(sandbox, without=root) == before


@pytest.mark.parametrize("link", ["my-lib", "my-lib/1.0.0", KEY])
async def test_links_are_not_followed(local_storage, root, source, tmp_path, link):
    outside = tmp_path / "outside"
    (outside / "1.0.0").mkdir(parents=True)
    target = outside if link != KEY else outside / "victim"
    for name in ("victim", "abc-1.tar.gz", "1.0.0/abc-1.tar.gz"):
        (outside / name).write_text("untouched")
    (root / "blobs" / link).parent.mkdir(parents=True, exist_ok=True)
    (root / "blobs" / link).symlink_to(target)
    before = snapshot(outside, without=root)
    for attempt in (
        local_storage.put(KEY, **source(b"evil").facts),
        local_storage.stat(KEY),
        local_storage.delete(KEY),
        local_storage.open(KEY).__aenter__(),
    ):
        with pytest.raises(InvalidKey):
            await attempt
    assert [blob async for blob in local_storage.list()] == []
    assert snapshot(outside, without=root) == before


async def test_a_circular_link_is_refused(local_storage, root, source):
    loop = root / "blobs" / "my-lib"
    loop.symlink_to(loop)
    with pytest.raises(InvalidKey):
        await local_storage.put(KEY, **source(b"x").facts)
    with pytest.raises(InvalidKey):
        async with local_storage.open(KEY):
            pass


async def test_other_users_have_no_access(local_storage, root, source):
    await local_storage.put(KEY, **source(b"x").facts)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (root / "blobs").rglob("*")}
    assert modes == {"my-lib": 0o750, "1.0.0": 0o750, "abc-1.tar.gz": 0o640}


async def test_nothing_is_presigned(local_storage):
    assert await local_storage.presign(KEY, expires=60, filename="x.tar.gz", cache_control="no-cache") is None


async def test_a_source_on_another_disk_is_copied(local_storage, root, source, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link", str(target))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    file = source(random.randbytes(3_000_000))
    await local_storage.put(KEY, **file.facts)
    path = root / "blobs" / KEY
    assert path.read_bytes() == file.data
    assert not path.samefile(file.path)


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EIO"])
async def test_a_failing_disk_is_unavailable(local_storage, root, source, monkeypatch, caplog, name):
    def fail(descriptor):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)), str(root))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageUnavailable) as caught:
        await local_storage.put(KEY, **source(b"x").facts)
    assert ("full" in caught.value.detail) == (name in {"ENOSPC", "EDQUOT"})
    assert str(root) not in str(caught.value)
    [record] = caplog.records
    assert (record.operation, record.key, str(root) in record.error) == ("put", KEY, True)
    assert await local_storage.stat(KEY) is None
    assert list((root / "tmp").iterdir()) == []


async def test_bytes_that_find_no_room_leave_no_blob(local_storage, root, source, monkeypatch):
    """The write stops in the middle, as it does on a full disk."""
    write, written = os.write, []

    def fill(descriptor, data):
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(write(descriptor, data[:3]))
        return written[0]

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(StorageUnavailable):
        await local_storage.put(KEY, **source(b"evil").in_memory)
    monkeypatch.undo()
    assert await local_storage.stat(KEY) is None


async def test_only_old_unfinished_uploads_are_removed(local_storage, root):
    old, new = root / "tmp" / "old", root / "tmp" / "new"
    for path in (old, new):
        path.write_bytes(b"half a blob")
    os.utime(old, (0, 0))
    assert await local_storage.stale_uploads(timedelta(hours=1)) == 1
    assert await local_storage.abort_stale_uploads(timedelta(hours=1)) == 1
    assert list((root / "tmp").iterdir()) == [new]
    assert await local_storage.abort_stale_uploads(timedelta(0)) == 1


async def test_blobs_survive_a_restart(root, source):
    async with open_local(root) as storage:
        await storage.put(KEY, **source(b"x").facts)
    async with open_local(root) as storage:
        assert [blob.key async for blob in storage.list()] == [KEY]


async def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "root").write_text("not a folder")
    with pytest.raises(StorageUnavailable):
        async with open_local(tmp_path / "root"):
            pass
