"""The files of the journal: what a reader finds after each kind of interruption."""

import os
from pathlib import Path

import pytest

from registry.downloads import journal
from registry.downloads.journal import Damaged, File, Journal


def left(folder: Path) -> list[bytes]:
    """The texts of the batches that dead processes left in `folder`, in no order."""
    found = []
    for path in folder.glob(journal.PATTERN):
        file = journal.take_over(path)
        assert file is not None
        batch = file.read()
        found += [] if batch is None else [batch.text]
        file.close()
    return found


def take(journal_: Journal) -> list[File]:
    """Takes all batches that wait."""
    waiting, _ = journal_.cut()
    return [journal_.take() for _ in range(waiting)]


def text(file: File) -> bytes:
    batch = file.read()
    assert batch is not None
    return batch.text


def only(folder: Path) -> Path:
    [path] = folder.glob(journal.PATTERN)
    return path


def test_a_reader_finds_what_was_written(tmp_path: Path):
    written = Journal(tmp_path)
    written.append([b'{"n":1}', b'{"n":2}'])
    written.append([b'{"n":3}'])
    assert journal.take_over(only(tmp_path)) is None
    written.close()
    assert left(tmp_path) == [b'{"n":1},{"n":2},{"n":3}']


def test_a_file_cut_at_any_byte_holds_the_groups_before_the_cut(tmp_path: Path):
    file = File.create(tmp_path)
    ends = [(0, b"")]
    for number in range(3):
        file.append([b'{"n":%d}' % number])
        batch = file.read()
        assert batch is not None
        ends.append((file._size, batch.text))
    file.close()
    whole = file.path.read_bytes()
    for cut in range(ends[-1][0] + 1):
        for rest in (b"", bytes(100), b"\xff" * 100):
            file.path.write_bytes(whole[:cut] + rest if cut >= journal._HEADER.size else whole[:cut])
            expected = max(text for end, text in ends if end <= cut)
            assert left(tmp_path) == ([expected] if expected else []), (cut, rest)


def test_a_changed_byte_ends_the_batch_before_its_group(tmp_path: Path):
    file = File.create(tmp_path)
    file.append([b'{"n":1}'])
    before = file._size
    file.append([b'{"n":2}'])
    after = file._size
    file.append([b'{"n":3}'])
    file.close()
    whole = file.path.read_bytes()
    for place in range(before, after):
        file.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert left(tmp_path) == [b'{"n":1}'], place


def test_a_used_file_holds_nothing_of_the_batch_before(tmp_path: Path):
    written = Journal(tmp_path)
    written.append([b'{"n":%d}' % number for number in range(50)])
    written.append([b'{"n":50}'])
    [taken] = take(written)
    written.done(taken)
    assert journal.waiting(tmp_path) == []
    written.append([b'{"n":0}'])  # as long as a group that the file held
    assert len(list(tmp_path.iterdir())) == 1
    written.close()
    assert left(tmp_path) == [b'{"n":0}']


def test_a_batch_gets_a_new_id_and_ends_when_it_is_taken(tmp_path: Path):
    written = Journal(tmp_path)
    ids = []
    for _ in range(3):
        written.append([b"{}"])
        [taken] = take(written)
        batch = taken.read()
        assert batch is not None
        ids.append(batch.id)
        written.done(taken)
    assert len(set(ids)) == 3
    assert written.cut() == (0, True)


def test_while_nothing_is_counted_the_journal_grows_and_shrinks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "FILE_BYTES", 200)
    written = Journal(tmp_path)
    for number in range(100):
        written.append([b'{"n":%d}' % number])
    files = len(list(tmp_path.iterdir()))
    assert files > 10
    texts = []
    while waiting := take(written):
        for taken in waiting:
            texts.append(text(taken))
            written.done(taken)
    assert len(texts) == files
    assert b",".join(texts) == b",".join(b'{"n":%d}' % number for number in range(100))
    assert len(list(tmp_path.iterdir())) == journal.KEPT_FILES


def test_while_nothing_is_counted_few_files_stay_open_and_others_may_be_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(journal, "FILE_BYTES", 200)
    written = Journal(tmp_path)
    for number in range(1000):
        written.append([b'{"n":%d}' % number])
    own = [text(taken) for taken in take(written)]
    written.close()
    unlocked = [file for path in tmp_path.glob(journal.PATTERN) if (file := journal.take_over(path)) is not None]
    assert len(unlocked) > len(own) == journal.MAX_OPEN
    texts = [*own, *map(text, unlocked)]
    assert sorted(b",".join(texts).split(b",")) == sorted(b'{"n":%d}' % number for number in range(1000))
    for file in unlocked:
        file.close()


def test_a_check_fails_while_no_download_could_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "FILE_BYTES", 200)
    written = Journal(tmp_path)
    written.prepare()

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(File, "create", no_room)
        written.check()
        with pytest.raises(OSError, match="space"):
            for _ in range(100):
                written.append([b'{"n":1}'])
        with pytest.raises(OSError, match="space"):
            written.check()
    written.check()
    written.append([b'{"n":2}'])


def test_a_file_that_can_not_be_removed_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As on a file system that was mounted again for reading only."""

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    written = Journal(tmp_path)
    written.prepare()
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", read_only)
        broken.setattr(Path, "unlink", read_only)
        for _ in range(journal.KEPT_FILES):
            with pytest.raises(OSError, match="Read-only"):
                written.append([b"{}"])
    assert left(tmp_path) == []


def test_after_a_failed_write_the_batch_goes_on_in_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    written = Journal(tmp_path)
    written.append([b'{"n":1}'])
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="error"):
            written.append([b'{"n":2}'])
    written.append([b'{"n":3}'])
    assert [text(taken) for taken in take(written)] == [b'{"n":1}', b'{"n":3}']


def test_a_file_that_is_no_journal_is_damaged(tmp_path: Path):
    (tmp_path / "x.downloads").write_bytes(b"x" * 1000)
    with pytest.raises(Damaged):
        left(tmp_path)


def test_a_file_that_another_process_removed_is_not_taken_over(tmp_path: Path):
    assert journal.take_over(tmp_path / "gone.downloads") is None


def test_a_batch_that_can_not_be_counted_blocks_no_other(tmp_path: Path):
    written = Journal(tmp_path)
    written.append([b'{"n":1}'])
    [bad] = take(written)
    counted = 0
    for _ in range(100):
        written.put_back(bad)
        written.append([b'{"n":2}'])
        written.cut()
        while (taken := written.take()) is not bad:
            counted += taken.count
            written.done(taken)
    assert counted >= 99


def test_while_every_batch_fails_the_current_file_fills_up(tmp_path: Path):
    written = Journal(tmp_path)
    for _ in range(100):
        written.append([b'{"n":1}'])
        written.cut()
        written.put_back(written.take())
    assert len(list(tmp_path.iterdir())) == 3
    assert written.cut() == (2, False)
    assert sum(text(taken).count(b"n") for _ in range(2) for taken in take(written)) == 100
