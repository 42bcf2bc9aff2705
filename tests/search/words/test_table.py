"""The table of queries fits its packages."""

from collections import Counter

from tests.search.words.corpus import PACKAGES
from tests.search.words.queries import QUERIES

NAMES = Counter(package["name"] for package in PACKAGES)


def test_each_package_is_there_once() -> None:
    assert set(NAMES.values()) == {1}


def test_each_query_is_there_once_and_names_packages_of_the_corpus() -> None:
    assert len({query.label for query in QUERIES}) == len(QUERIES)
    for query in QUERIES:
        wanted = query.top | ({query.first} if query.first else set())
        assert wanted | query.absent, query.label
        assert wanted | query.absent <= NAMES.keys(), query.label
        assert not wanted & query.absent, query.label
        assert len(wanted) <= 3, query.label
