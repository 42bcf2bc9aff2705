"""The suite of queries that share no word with the packages they mean."""

from tests.bench.relevance_blind import Blind, answers, read, shared_words
from tests.bench.relevance_meaning import BLIND, BY_MEANING, BY_WORDS, report, report_times
from tests.bench.relevance_queries import NONSENSE


def test_forty_queries_share_no_word_with_the_packages_they_mean() -> None:
    assert len(answers()) == 40
    assert {each.q: shared for each in read() if (shared := shared_words(each))} == {}


def test_a_shared_stem_is_noticed() -> None:
    assert shared_words(Blind("scan my photos", "x", "photo scanning")) == {"scan", "photo"}
    assert shared_words(Blind("read the letters", "ocr", "the optical recognition of text")) == set()


def test_a_model_must_gain_without_losing_elsewhere() -> None:
    words = {"exact": [1, 1], BLIND: [0, 0, 0, 0], NONSENSE: [0] * 20}
    better = {"exact": [1, 1], BLIND: [3, 0, 0, 0], NONSENSE: [1] + [0] * 19}
    assert report({BY_WORDS: words, BY_MEANING: better})
    for worse in ({"exact": [1, 2]}, {BLIND: [0, 0, 0, 0]}, {NONSENSE: [1, 1] + [0] * 18}):
        assert not report({BY_WORDS: words, BY_MEANING: {**better, **worse}})


def test_the_time_may_grow_a_little() -> None:
    assert report_times({BY_WORDS: [1.0] * 40, BY_MEANING: [1.5] * 40})
    assert not report_times({BY_WORDS: [1.0] * 40, BY_MEANING: [1.7] * 40})
