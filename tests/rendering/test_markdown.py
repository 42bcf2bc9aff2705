import pytest
from selectolax.lexbor import LexborHTMLParser

from registry.rendering import markdown
from tests.pages import hostile
from tests.pages.harmless import assert_harmless

ELSEWHERE = "https://pictures.example/a.png"


def rendered(text, targets=None, hosts=()):
    html = markdown.render(text, targets or {}, hosts, "readme-", 1)["html"]
    assert html is not None
    return html


def tree(text, targets=None, hosts=()):
    return LexborHTMLParser(rendered(text, targets, hosts))


def links(text, targets=None):
    return [(a.attributes["href"], a.text()) for a in tree(text, targets).css("a")]


def test_tables_strikethrough_and_bare_links_work():
    page = tree("| a | b |\n|--:|---|\n| 1 | ~~2~~ |\n\nSee https://example.org/x.")
    assert page.css_first("td").attributes["align"] == "right"
    assert page.css_first("td s").text() == "2"
    assert page.css_first("a").attributes == {"href": "https://example.org/x", "rel": "nofollow ugc noopener"}


def test_headings_move_below_ours_and_ids_get_the_prefix():
    page = tree("# One *two* `three`\n\n###### Six\n\n# One two three\n\n<h1 id='own'>Raw</h1>")
    found = [(each.tag, each.attributes["id"]) for each in page.css("h1, h2, h3, h4, h5, h6")]
    assert found == [
        ("h2", "readme-one-two-three"),
        ("h6", "readme-six"),
        ("h2", "readme-one-two-three-1"),
        ("h2", "readme-own"),
    ]


@pytest.mark.parametrize("fragment", ["what-is-repeated", "What-Is-Repeated", "anchor", "%61nchor"])
def test_links_to_headings_and_anchors_work(fragment):
    text = f"[go](#{fragment})\n\n## What is repeated?\n\n<a name='anchor'></a>"
    page = tree(text)
    target = page.css_first("a").attributes["href"]
    assert page.css_first(target) is not None
    assert "rel" not in page.css_first("a").attributes


def test_a_link_to_a_heading_that_is_not_there_is_text():
    assert links("[go](#nowhere)") == []


def test_relative_links_are_asked_for_and_then_lead_where_the_answer_says():
    text = "[guide](docs/a.md#x) ![logo](logo.png) [gone](gone.md) <img src='/b.png'>"
    first = markdown.render(text, {}, (), "readme-", 1)
    assert first["asked"] == ["docs/a.md#x", "logo.png", "gone.md", "/b.png"]
    targets = {
        "docs/a.md#x": {"href": "/packages/demo/1.0.0/files/docs/a.md#x", "src": None},
        "logo.png": {"href": "/files/logo.png", "src": "/files/logo.png?picture=1"},
        "gone.md": {"href": None, "src": None},
        "/b.png": {"href": "https://git.example", "src": None},
    }
    assert links(text, targets) == [
        ("/packages/demo/1.0.0/files/docs/a.md#x", "guide"),
        ("https://git.example", "Picture"),
    ]
    assert tree(text, targets).css_first("img").attributes["src"] == "/files/logo.png?picture=1"


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", "&#106;avascript:alert(1)",
        " javascript:x", "data:text/html,x", "vbscript:x", "mailto:a@b.example", "file:///etc/passwd", "http:", "https://[",
        "ftp://a.example/",
    ],
)  # fmt: skip
def test_only_http_links_are_links(address):
    for text in (
        f"[x](<{address}>)",
        f'<a href="{address}">x</a>',
        f"![x](<{address}>)",
        f'<img src="{address}" alt=x>',
    ):
        page = tree(text)
        assert page.css("a, img") == [], text
        assert "x" in page.text()


def test_pictures_from_elsewhere_are_links_unless_the_operator_allows_their_host():
    text = f'![Build]({ELSEWHERE}) <img src="{ELSEWHERE}" alt="Raw" onerror="x">'
    assert links(text) == [(ELSEWHERE, "Build"), (ELSEWHERE, "Raw")]
    shown = tree(text, hosts=["pictures.example"])
    assert [each.attributes["src"] for each in shown.css("img")] == [ELSEWHERE, ELSEWHERE]
    assert shown.css("a") == []


@pytest.mark.parametrize(
    "address",
    ["http://pictures.example/a.png", "https://pictures.example:8443/a.png", "https://pictures.example.evil.example/a"],
)
def test_only_the_allowed_origin_is_shown(address):
    assert tree(f"![x]({address})", hosts=["pictures.example"]).css("img") == []


def test_a_picture_within_a_link_keeps_the_link():
    assert links(f"[![Build]({ELSEWHERE})](https://ci.example)") == [("https://ci.example", "Build")]


def test_scripts_styles_and_handlers_are_removed():
    text = (
        "<script>alert(1)</script><style>*{}</style><p onclick=x style='color:red' class=button>kept</p>"
        "<form action=/x><input name=q><button>b</button></form><iframe src=x></iframe><svg><script>1</script></svg>"
        "<math><mtext></mtext></math><base href=//x><meta http-equiv=refresh><link rel=stylesheet href=x>"
        "<object data=x></object><video src=x></video><textarea>t</textarea>"
    )
    page = tree(text)
    allowed = {"html", "head", "body", "p"}
    assert {each.tag for each in page.css("*")} <= allowed
    assert page.css_first("p").attributes == {"dir": "auto"}


def test_ids_and_classes_of_ours_are_out_of_reach():
    page = tree('<div id="main" class="site-header">x</div><span class="k button">y</span>')
    assert page.css_first("div").attributes == {"id": "readme-main"}
    assert page.css_first("span").attributes == {"class": "k"}


def test_code_is_coloured_by_class_names():
    page = tree('```python\nx = "<b>"\n```\n\n```nothing\n<i>\n```')
    first, second = page.css("pre")
    assert first.css_first("span.s2").text() == '"<b>"'
    assert second.text() == "<i>\n"
    assert first.attributes == {"tabindex": "0"}


@pytest.mark.parametrize(
    "text",
    [
        ">" * 10_000 + "x",
        "- " * 10_000 + "x",
        "<div>" * 10_000,
        "<div></x>" * 10_000,
        "".join("  " * level + "- x\n" for level in range(200)),
        "<b><i>" * 5_000,
        "x" * (markdown.MAX_CHARACTERS + 1),
    ],
    ids=["quotes", "lists", "elements", "wrong ends", "indented", "inline", "long"],
)
def test_texts_that_are_nested_too_deeply_or_too_long_are_not_rendered(text):
    assert markdown.render(text, {}, (), "readme-", 1) == {"html": None, "asked": []}


def test_all_of_a_text_is_shown_up_to_the_limit_of_nesting():
    assert "deep" in rendered("> " * 40 + "deep")


def test_many_relative_links_are_not_all_asked_for():
    assert len(markdown.render("[a](%d) " * 3000 % tuple(range(3000)), {}, (), "", 1)["asked"]) == markdown.MAX_TARGETS


@pytest.mark.parametrize("number", range(hostile.COUNT))
def test_hostile_texts_are_harmless(number):
    text = hostile.readmes()[number]
    done = markdown.render(text, {}, ["pictures.example"], "readme-", 1)
    target = {"href": "/packages/x", "src": "/packages/x?picture=1"}
    targets = dict.fromkeys(done["asked"], target)
    for html in (done["html"], markdown.render(text, targets, ["pictures.example"], "readme-", 1)["html"]):
        assert_harmless(html or "")
        page = LexborHTMLParser(html or "")
        assert not page.css("script, form, input, button, svg, title, link, meta, dialog, h1, main")
        assert all(node.attributes["id"].startswith("readme-") for node in page.css("[id]"))
        assert set(page.css_first("body").attributes) == set()
