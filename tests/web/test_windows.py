"""Counters with fixed windows, in memory."""

from types import SimpleNamespace

import pytest

from registry.web import windows
from registry.web.windows import Windows


@pytest.fixture
def clock() -> SimpleNamespace:
    clock = SimpleNamespace(now=1_000_000.0)
    clock.time = lambda: clock.now
    return clock


def test_a_window_starts_with_its_first_count_and_ends_after_its_seconds(clock):
    counts = Windows(clock.time)
    assert counts.count("a", 60) == (1, 1_000_060.0)
    clock.now += 59
    assert counts.count("a", 60) == (2, 1_000_060.0)
    assert counts.count("b", 60) == (1, 1_000_119.0)
    clock.now += 1
    assert counts.count("a", 60) == (1, 1_000_120.0)


def test_a_clock_that_steps_back_locks_nobody_out(clock):
    counts = Windows(clock.time)
    counts.count("a", 60)
    clock.now -= 3600
    assert counts.count("a", 60) == (1, 1_000_060.0 - 3600)


def test_ended_windows_take_no_memory(clock):
    counts = Windows(clock.time)
    for number in range(windows.CLEAN_UP_SIZE - 1):
        counts.count(f"old {number}", 60)
    clock.now += 60
    for number in range(windows.CLEAN_UP_SIZE - 1):
        counts.count(f"new {number}", 60)
    assert len(counts) == windows.CLEAN_UP_SIZE - 1


def test_reading_a_count_changes_nothing(clock):
    counts = Windows(clock.time)
    assert counts.read("a", 60) == (0, 0.0)
    counts.count("a", 60)
    assert counts.read("a", 60) == counts.read("a", 60) == (1, 1_000_060.0)
    clock.now += 60
    assert counts.read("a", 60) == (0, 0.0)
