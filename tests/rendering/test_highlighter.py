import re

import pytest

from registry.rendering import highlighter
from registry.rendering.protocol import MAX_COLOURED

TAG = re.compile(r"</?span[^>]*>")


@pytest.mark.parametrize("text", ["x = 1", "x = 1\n", 'x = """a\n<b>"""\n\n', "\r\nx\r\n", "\n\n"])
def test_each_line_is_html_of_its_own(text):
    lines = highlighter.lines(text, "a.py")
    shown = [re.sub(r"&lt;", "<", re.sub(r"&gt;", ">", re.sub("&quot;", '"', TAG.sub("", line)))) for line in lines]
    assert shown == text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    assert all(line.count("<span") == line.count("</span>") for line in lines)


def test_html_of_the_text_is_escaped():
    [line] = highlighter.lines("<script>alert('x')</script>", "a.html")
    assert "<script" not in line


@pytest.mark.parametrize("name", ["a.zzz", "LICENSE", "", "a"])
def test_unknown_languages_have_no_colours(name):
    assert highlighter.lines("x", name) is None


def test_large_texts_have_no_colours():
    assert highlighter.lines("x" * (MAX_COLOURED + 1), "a.py") is None
    assert highlighter.lines("{" * 1000, "a.json") is not None
    assert highlighter.block("x" * (MAX_COLOURED + 1), "python") == ""
    assert highlighter.block("x", "no language") == ""
