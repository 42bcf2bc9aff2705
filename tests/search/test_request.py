import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InvalidInput
from registry.search.request import PARAMETERS, SORTS, SearchRequest, parse_suggest
from registry.search.terms import MAX_WORDS, Terms, parse_terms
from registry.web import cursor
from tests.search.parameters import parameters_of

ANY_TEXT = st.text(max_size=80)
QUERY_LIKE = st.lists(
    st.sampled_from(["author:", "keyword:", "-", '"', "ada", "http client", " ", "c++", "*", "é", ":", "\\", "name:x"])
).map("".join)


def parse(*params: tuple[str, str]) -> SearchRequest:
    return SearchRequest.parse(params)


def errors_of(*params: tuple[str, str]) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        SearchRequest.parse(params)
    return {error["field"]: error["message"] for error in caught.value.errors}


def position_of(sort: str) -> st.SearchStrategy[tuple[int | str, ...] | None]:
    if sort == "relevance":
        return st.none()
    texts = st.tuples(st.text("abc-", max_size=20), st.text("019~", max_size=20))
    if sort == "name":
        return st.none() | texts
    return st.none() | st.tuples(st.integers(-(10**15), 10**15), texts).map(lambda pair: (pair[0], *pair[1]))


@st.composite
def requests(draw: st.DrawFn) -> SearchRequest:
    sort = draw(st.sampled_from(SORTS))
    after = draw(position_of(sort))
    words = st.text('abc -:"é*', min_size=1, max_size=20).map(str.strip).filter(bool)
    values = st.lists(words, max_size=3, unique=True).map(tuple)
    q = draw(words)
    return SearchRequest(
        q=q,
        terms=parse_terms(q),
        limit=draw(st.integers(1, 100)),
        offset=0 if after is not None else draw(st.integers(0, 9_900)),
        after=after,
        sort=sort,
        authors=draw(values),
        licenses=draw(values),
        keywords=draw(values),
        prerelease=draw(st.booleans()),
        every_version=draw(st.booleans()),
        facets=draw(st.booleans()),
        min_seq=draw(st.integers(0, 10**18 - 1)),
    )


@given(requests())
def test_parsing_the_parameters_of_a_request_gives_the_request(request: SearchRequest) -> None:
    assert SearchRequest.parse(parameters_of(request)) == request


@given(st.lists(st.tuples(st.sampled_from([p["name"] for p in PARAMETERS]), ANY_TEXT | QUERY_LIKE), max_size=8))
def test_any_parameters_are_a_request_or_named_errors(params: list[tuple[str, str]]) -> None:
    request, fields = parsed_or_wrong(params)
    assert fields <= {p["name"] for p in PARAMETERS}
    assert bool(fields) == (request is None)
    if request is not None:
        assert SearchRequest.parse(parameters_of(request)) == request


def parsed_or_wrong(params: list[tuple[str, str]]) -> tuple[SearchRequest | None, set[str]]:
    try:
        return SearchRequest.parse(params), set()
    except InvalidInput as wrong:
        return None, {error["field"] for error in wrong.errors if error["message"]}


@given(ANY_TEXT | QUERY_LIKE)
def test_any_text_has_terms(q: str) -> None:
    terms = parse_terms(q)
    assert len(terms.text.split()) <= MAX_WORDS
    assert '"' not in "".join([terms.text, *terms.phrases, *terms.excluded])


def test_fields_phrases_and_exclusions() -> None:
    q = 'author:ada -keyword:old "exact phrase" fast -slow -"very slow" License:"Apache 2.0" name:x'
    assert parse_terms(q) == Terms(
        text="exact phrase fast",
        phrases=("exact phrase",),
        excluded=("slow", "very slow"),
        fields=(("author", "ada"), ("license", "Apache 2.0"), ("name", "x")),
        excluded_fields=(("keyword", "old"),),
    )


@pytest.mark.parametrize(
    ("q", "text"),
    [
        ("foo-bar", "foo-bar"),
        ("--verbose", "--verbose"),
        ("http://x", "http://x"),
        ("author:", "author:"),
        ("other:value", "other:value"),
        ('half "open phrase', "half open phrase"),
        ("a AND (b OR c)", "a AND (b OR c)"),
        ("* wild", "wild"),
    ],
)
def test_everything_else_is_plain_text(q: str, text: str) -> None:
    assert parse_terms(q) == Terms(text=text)


@pytest.mark.parametrize("q", ["*", "?", "***", "-", '""', "()", "🚀", "author:*"])
def test_punctuation_alone_is_valid_and_matches_nothing(q: str) -> None:
    assert parse(("q", q)).terms.matches_nothing


def test_a_query_with_only_fields_browses() -> None:
    terms = parse_terms("author:ada -keyword:old")
    assert terms.browses
    assert not terms.matches_nothing


@pytest.mark.parametrize("params", [(), (("q", ""),), (("q", " \t\n\x01 "),)])
def test_the_error_for_a_missing_query_names_the_list(params: tuple[tuple[str, str], ...]) -> None:
    assert "GET /packages?sort=downloads" in errors_of(*params)["q"]


def test_control_characters_are_read_as_blanks() -> None:
    assert parse(("q", "http\x07client\r\n")).q == "http client"


@pytest.mark.parametrize("q", ["a\0b", "a\ud800b", "x" * 513])
def test_invalid_queries_are_refused(q: str) -> None:
    assert "q" in errors_of(("q", q))


def test_the_longest_query_is_accepted() -> None:
    assert parse(("q", "x" * 512)).q == "x" * 512


@pytest.mark.parametrize("name", ["limit", "offset", "min_seq"])
@pytest.mark.parametrize("value", ["", "-1", "1.5", "+1", " 1", "١", "1e3", "0x1", "one"])
def test_numbers_are_plain_digits(name: str, value: str) -> None:
    assert name in errors_of(("q", "x"), (name, value))


def test_limits_are_between_1_and_100() -> None:
    assert parse(("q", "x")).limit == 20
    assert parse(("q", "x"), ("limit", "101")).limit == 100
    assert parse(("q", "x"), ("limit", "9" * 5000)).limit == 100
    assert "limit" in errors_of(("q", "x"), ("limit", "0"))


def test_the_error_for_a_large_offset_names_the_cursor() -> None:
    assert parse(("q", "x"), ("limit", "20"), ("offset", "9980")).offset == 9980
    assert "cursor" in errors_of(("q", "x"), ("offset", "9981"))["offset"]
    assert "cursor" in errors_of(("q", "x"), ("offset", "9" * 5000))["offset"]


def test_min_seq_has_at_most_18_digits() -> None:
    assert parse(("q", "x"), ("min_seq", "9" * 18)).min_seq == 10**18 - 1
    assert "min_seq" in errors_of(("q", "x"), ("min_seq", "9" * 19))


def test_every_wrong_parameter_is_named_at_once() -> None:
    wrong = errors_of(
        ("limit", "x"), ("offset", "x"), ("sort", "x"), ("prerelease", "x"), ("versions", "x"), ("facets", "1"),
        ("min_seq", "x"), ("author", " "), ("license", ""), ("keyword", "\0"), ("cursor", "x"),
    )  # fmt: skip
    assert set(wrong) == {parameter["name"] for parameter in PARAMETERS}


def test_filters_repeat() -> None:
    assert parse(("q", "x"), ("keyword", "a"), ("keyword", "b")).keywords == ("a", "b")


GOOD_CURSOR = cursor.encode("downloads", (12, "foo", "001~"))


def forged(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "text",
    [
        "", "*", "é", "a" * 2000, GOOD_CURSOR[:-3], forged("{}"), forged("[]"), forged("[1]"), forged('["downloads"]'),
        forged('["downloads",true,"a","b"]'), forged('["downloads",1.5,"a","b"]'), forged('["downloads","1","a","b"]'),
        forged('["downloads",99999999999999999999,"a","b"]'), forged('["downloads",1,"a\\u0000","b"]'),
        forged('["name","a","b"]'), forged("[" * 900),
    ],
)  # fmt: skip
def test_a_bad_cursor_is_named(text: str) -> None:
    assert "cursor" in errors_of(("q", "x"), ("sort", "downloads"), ("cursor", text))


def test_a_cursor_is_valid_only_with_its_sort_and_without_an_offset() -> None:
    assert parse(("q", "x"), ("sort", "downloads"), ("cursor", GOOD_CURSOR)).after == (12, "foo", "001~")
    assert "relevance" in errors_of(("q", "x"), ("cursor", GOOD_CURSOR))["cursor"]
    assert "cursor" in errors_of(("q", "x"), ("sort", "name"), ("cursor", GOOD_CURSOR))
    assert "offset" in errors_of(("q", "x"), ("sort", "downloads"), ("cursor", GOOD_CURSOR), ("offset", "1"))["cursor"]


def test_suggestions_need_a_query_no_longer_than_a_name() -> None:
    assert parse_suggest([("q", " htt ")]) == "htt"
    for q in ("", " ", "x" * 215, "\0"):
        with pytest.raises(InvalidInput):
            parse_suggest([("q", q)])
