"""The suite of queries that share no word with the packages they mean."""

from tests.bench.relevance_blind import Blind, answers, read, shared_words


def test_forty_queries_share_no_word_with_the_packages_they_mean() -> None:
    assert len(answers()) == 40
    assert {each.q: shared for each in read() if (shared := shared_words(each))} == {}


def test_a_shared_stem_is_noticed() -> None:
    assert shared_words(Blind("scan my photos", "x", "photo scanning")) == {"scan", "photo"}
    assert shared_words(Blind("read the letters", "ocr", "the optical recognition of text")) == set()
