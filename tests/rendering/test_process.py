import asyncio
import os
import signal
from pathlib import Path

import pytest

from registry.rendering import process as process_module
from registry.rendering.process import MAX_WAITING, PROCESSES, NotRendered, Workers
from tests.until import until

GIVEN = {"targets": {}, "hosts": [], "prefix": "", "shift": 0}
# difflib takes minutes for these.
SLOW = {
    "old": "".join(f"{n % 150}\n" for n in range(20_000)),
    "new": "".join(f"{n * 7 % 150}\n" for n in range(20_000)),
}


@pytest.fixture
async def workers():
    made = Workers()
    yield made
    await made.aclose()


async def test_markdown_code_and_differences_are_rendered(workers):
    assert await workers.call("markdown", text="# Hi", **GIVEN) == {
        "html": '<h1 id="hi" dir="auto">Hi</h1>\n',
        "asked": [],
    }
    assert await workers.call("highlight", text="1", filename="a.py") == ['<span class="mi">1</span>']
    assert (await workers.call("difference", old="a\n", new="b\n"))[0]["lines"] == [["-", "a"], ["+", "b"]]


async def test_work_ends_when_its_processor_time_is_used_up(workers):
    with pytest.raises(NotRendered, match="time") as refused:
        await workers.call("difference", seconds=0.2, **SLOW)
    assert refused.value.is_final
    assert (await workers.call("replacement", **SLOW))[0]["old"] == 1


async def test_an_error_of_a_parser_refuses_one_text_only(workers):
    with pytest.raises(NotRendered, match="TypeError") as refused:
        await workers.call("markdown", text=1, **GIVEN)
    assert refused.value.is_final
    assert (await workers.call("markdown", text="x", **GIVEN))["html"] == '<p dir="auto">x</p>\n'


async def test_a_killed_process_is_replaced(workers):
    await workers.call("highlight", text="1", filename="a.py")
    [process] = workers._idle
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: process.returncode is not None)
    assert await workers.call("highlight", text="1", filename="a.py") == ['<span class="mi">1</span>']


async def test_a_text_that_breaks_its_process_is_tried_twice(workers, monkeypatch):
    started = []
    start = process_module._start

    async def counted():
        started.append(await start())
        return started[-1]

    async def crash(process, _request):
        process.kill()
        raise asyncio.IncompleteReadError(b"", 4)

    monkeypatch.setattr(process_module, "_start", counted)
    monkeypatch.setattr(process_module, "_exchange", crash)
    with pytest.raises(NotRendered, match="ended") as refused:
        await workers.call("highlight", text="1", filename="a.py")
    assert refused.value.is_final
    assert len(started) == 2
    assert all(each.returncode is not None for each in started)


async def test_a_cancelled_request_ends_its_process(workers):
    await workers.call("highlight", text="1", filename="a.py")
    [process] = workers._idle
    call = asyncio.create_task(workers.call("difference", seconds=60, **SLOW))
    await until(lambda: not workers._idle)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert process.returncode == -signal.SIGKILL
    assert await workers.call("highlight", text="1", filename="a.py") == ['<span class="mi">1</span>']


async def test_the_processes_have_no_environment(workers, monkeypatch):
    monkeypatch.setenv("REGISTRY_SECRET_KEY", "hush")
    await workers.call("highlight", text="1", filename="a.py")
    assert b"hush" not in Path(f"/proc/{workers._idle[0].pid}/environ").read_bytes()


async def test_only_so_many_wait_and_work(workers):
    calls = [asyncio.create_task(workers.call("highlight", text="1", filename="a.py")) for _ in range(MAX_WAITING + 1)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in answers] == [list] * MAX_WAITING + [NotRendered]
    assert not answers[-1].is_final
    assert len(workers._idle) == PROCESSES
