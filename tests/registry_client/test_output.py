"""What the commands print: safe for terminals, and JSON for scripts."""

import io
import json

import pytest

from registry.client.failures import ClientError
from registry.client.output import Output, size, width_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def output(
    *, as_json: bool = False, terminal: bool = False, encoding: str = ""
) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = (Terminal(), Terminal()) if terminal else (io.StringIO(), io.StringIO())
    return Output(as_json=as_json, out=out, err=err), out, err


def test_a_strangers_text_can_not_control_the_terminal():
    printer, out, _ = output()
    printer.result({}, "a\x1b[31mred\x07\x9b\u202ereversed\r\tok\nnext")
    assert out.getvalue() == "a\ufffd[31mred\ufffd\ufffd\ufffdreversed\ufffd\ufffdok\nnext\n"


def test_json_replaces_the_text():
    printer, out, err = output(as_json=True)
    printer.result({"a": "ü\x1b"}, "text")
    printer.note("note")
    assert json.loads(out.getvalue()) == {"a": "ü\x1b"}
    assert "\x1b" not in out.getvalue()
    assert err.getvalue() == "note\n"


def test_each_problem_is_a_line():
    errors = [{"field": "name", "message": "is bad"}, {"field": "version", "message": "is worse"}]
    problem = ClientError("name: is bad; version: is worse", code="invalid_input", status=400, errors=errors)
    printer, out, err = output()
    printer.failure(problem)
    assert (out.getvalue(), err.getvalue()) == ("", "error: name: is bad\nerror: version: is worse\n")
    printer, out, err = output(as_json=True)
    printer.failure(problem)
    assert err.getvalue() == ""
    assert json.loads(out.getvalue()) == {
        "error": str(problem), "code": "invalid_input", "status": 400, "errors": errors,
    }  # fmt: skip


def test_a_failure_without_fields_is_one_line():
    printer, _, err = output()
    printer.failure(ClientError("It failed."))
    assert err.getvalue() == "error: It failed.\n"


def test_a_table_has_one_line_for_each_row():
    printer, _, _ = output()
    text = printer.table(("NAME", "TEXT"), [("demo", "one\ntwo   three"), ("x", "y" * 200)])
    assert text.splitlines() == ["NAME  TEXT", "demo  one two three", f"x     {'y' * 200}"]


def test_on_a_terminal_a_table_fits(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    printer, _, _ = output(terminal=True)
    lines = printer.table(("NAME", "TEXT"), [("demo", "y" * 200)]).splitlines()
    assert max(map(len, lines)) == 40
    assert lines[1].endswith("…")


def test_wide_characters_take_two_columns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "20")
    printer, _, _ = output(terminal=True)
    lines = printer.table(("NAME", "TEXT"), [("demo", "日本語" * 9), ("e\u0301", "x")]).splitlines()
    assert lines == ["NAME  TEXT", "demo  日本語日本語…", "e\u0301     x"]
    assert width_of(lines[1]) == 19


def test_long_values_continue_below_their_beginning_and_can_be_copied(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "40")
    rows = [("description", "one two three four five six seven"), ("sha256", "0" * 64)]
    printer, _, _ = output(terminal=True)
    assert printer.fields(rows).splitlines() == [
        "description:  one two three four five", " " * 14 + "six seven", "sha256:       " + "0" * 64,
    ]  # fmt: skip
    piped, _, _ = output()
    assert piped.fields(rows).splitlines() == [f"description:  {rows[0][1]}", f"sha256:       {rows[1][1]}"]


def test_a_terminal_without_unicode_gets_question_marks():
    raw = io.BytesIO()
    printer = Output(as_json=False, out=io.TextIOWrapper(raw, encoding="ascii", write_through=True), err=io.StringIO())
    printer.result({}, "größe…")
    assert raw.getvalue() == b"gr??e?\n"


def test_sizes_are_for_people():
    assert [size(n) for n in (0, 999, 1000, 1234, 999_950, 12_345_678, 5_000_000_000_000)] == [
        "0 B", "999 B", "1.0 kB", "1.2 kB", "1.0 MB", "12.3 MB", "5000.0 GB",
    ]  # fmt: skip
