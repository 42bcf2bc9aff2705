"""The synonyms of Elasticsearch's analysis, for searches in PostgreSQL."""

from collections import defaultdict
from functools import lru_cache

import es_mappings
from registry.search.documents import PACKAGES
from registry.search.fallback.lexemes import stemmed, words

Phrase = tuple[str, ...]


@lru_cache(maxsize=1)
def synonyms() -> dict[Phrase, list[Phrase]]:
    """The other words for each word or phrase, as lexemes."""
    found: dict[Phrase, list[Phrase]] = defaultdict(list)
    for rule in es_mappings.load(PACKAGES)["settings"]["analysis"]["filter"]["syn"]["synonyms"]:
        group = list(dict.fromkeys(_lexemes(text) for text in rule.split(",")))
        for phrase in group:
            found[phrase] += [other for other in group if other != phrase]
    return dict(found)


def _lexemes(text: str) -> Phrase:
    return tuple(stemmed(word.text) for word in words(text))
