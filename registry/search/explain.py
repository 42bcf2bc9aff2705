"""Explains the position of a package in the results of a query, or why the query does not find it."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

# pydantic can't describe the TypedDict of `typing` before Python 3.12.
from typing_extensions import TypedDict

from registry.db.engine import Database
from registry.package_format.names import similarity_key
from registry.search import clauses, filters, page, query, store
from registry.search.documents import PACKAGES, Document
from registry.search.index import SearchIndex
from registry.search.meaning.encoder import Vector, vector_of
from registry.search.request import SearchRequest

Reason = Literal["found", "unknown", "deleted", "quarantined", "yanked", "not_indexed", "filtered", "no_match"]


class Part(TypedDict):
    """A clause or a factor of the raw score. `worth` is the score that the clause gave, or the value of the factor."""

    part: str
    worth: float


class Factor(Part):
    """`because` says in words what the value was made of."""

    because: str


class Evidence(TypedDict):
    """The strongest kind of evidence counts in full, the others by a fifth. The parts of one kind are added up."""

    kind: str
    parts: list[Part]


class Explanation(TypedDict):
    """`position` is the place in the results, from 1 on. `score` is from 0 to 1, as in the results.

    `rank` is the raw score, from which `score` is computed: evidence × (1 + the sum of `factors`) × `demotion`.
    For a package that is not found, `reason` says why, and `unmatched` names the filters or words it does not match.
    """

    name: str
    query: str
    found: bool
    reason: Reason
    explanation: str
    position: int | None
    score: float
    rank: float
    tier: Literal["exact", "compact", "text", "none"]
    evidence: list[Evidence]
    factors: list[Factor]
    demotion: float
    unmatched: list[str]


_ABSENT: dict[Reason, str] = {
    "unknown": "There is no package of this name.",
    "deleted": "All its versions were deleted.",
    "quarantined": "It is in quarantine.",
    "yanked": "All its versions are yanked.",
    "not_indexed": "It is not in the index yet.",
    "filtered": "These filters of the query exclude it: {unmatched}.",
    "no_match": "It matches too little of the query. It does not contain: {unmatched}.",
}
# Raw scores that differ by a smaller factor are equal, except for rounding.
_ABOVE = 1 + 1e-6


async def explain(db: Database, index: SearchIndex, request: SearchRequest, name: str) -> Explanation:
    """Explains where the package `name` is in the results of `request` by relevance.

    Raises SearchUnavailable, DatabaseUnavailable.
    """
    async with db.read() as conn:
        standing = await store.standing(conn, similarity_key(name.lower()))
    if standing is None or (request.within is not None and standing.name not in request.within):
        return _absent(name, request, "unknown")
    if standing.quarantined:
        return _absent(standing.name, request, "quarantined")
    if not standing.shown or not standing.offered:
        return _absent(standing.name, request, "yanked" if standing.shown else "deleted")
    documents = await index.documents(PACKAGES, [standing.name], ["*"])
    if standing.name not in documents:
        refused = f" Elasticsearch refused it: {standing.refusal}" if standing.refusal else ""
        return _absent(standing.name, request, "not_indexed", more=refused)
    max_popularity = await index.max_popularity()
    vector = await vector_of(index.encoder, request)
    body = query.build(request, max_popularity, vector)
    if request.terms.text and not await _count(index, query.build_count(request)):
        body = query.build_relaxed(request, max_popularity, vector)
    hit = await _hit(index, body, standing.name)
    if hit is None:
        return await _why_not(index, request, standing.name)
    above = await _count_above(index, body, hit)
    evidence = await _evidence(index, request, standing.name, vector)
    return _found(request, documents[standing.name], hit, above, evidence, max_popularity)


async def _hit(index: SearchIndex, body: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    only = {**body, "size": 1, "from": 0, "post_filter": {"term": {"name.raw": name}}}
    hits = (await index.search(PACKAGES, only))["hits"]["hits"]
    return hits[0] if hits else None


async def _count(index: SearchIndex, body: Mapping[str, Any]) -> int:
    answer = await index.search(PACKAGES, {**body, "size": 0, "from": 0})
    return int(answer["hits"]["total"]["value"])


async def _count_above(index: SearchIndex, body: Mapping[str, Any], hit: Mapping[str, Any]) -> int:
    """The number of results that come before `hit`. Those with its score are ordered by downloads and name."""
    downloads, name, score = hit["_source"]["downloads"], hit["_source"]["name"], hit["_score"]
    before = {"bool": {"filter": [{"term": {"downloads": downloads}}, {"range": {"name.raw": {"lt": name}}}]}}
    wins = filters.any_of([{"range": {"downloads": {"gt": downloads}}}, before])
    loses = {"bool": {"must_not": wins}}
    # Those that win a tie need at least this score, the others need more.
    winners = await _count(index, {**body, "min_score": score / _ABOVE, "post_filter": wins})
    return winners + await _count(index, {**body, "min_score": score * _ABOVE, "post_filter": loses})


async def _part_scores(index: SearchIndex, name: str, clauses: Mapping[str, filters.Body]) -> dict[str, float]:
    """The score of each clause that matches the package."""
    named = [{"bool": {"must": clause, "_name": label}} for label, clause in clauses.items()]
    body = {
        "query": {"bool": {"filter": {"term": {"name.raw": name}}, "should": named}},
        "size": 1,
        "_source": False,
    }
    hits = (await index.search(PACKAGES, body, named_scores=True))["hits"]["hits"]
    matched = hits[0].get("matched_queries", {}) if hits else {}
    return {label: round(matched[label], 3) for label in clauses if label in matched}


async def _evidence(index: SearchIndex, request: SearchRequest, name: str, vector: Vector | None) -> list[Evidence]:
    found: list[Evidence] = []
    text = request.terms.text
    if not text:
        return found
    kinds = {**clauses.evidence(text), "the name itself": clauses.tiers(text)}
    if vector is not None:
        kinds["its meaning"] = {query.BY_MEANING: query.by_meaning(request, vector)}
    for kind, parts in kinds.items():
        if scores := await _part_scores(index, name, parts):
            found.append({"kind": kind, "parts": [{"part": part, "worth": score} for part, score in scores.items()]})
    return found


async def _why_not(index: SearchIndex, request: SearchRequest, name: str) -> Explanation:
    wanted, unwanted = filters.required_filters(request), filters.excluding_filters(request.terms)
    kept = await _part_scores(index, name, {**wanted, **unwanted})
    failed = [label for label in wanted if label not in kept] + [label for label in unwanted if label in kept]
    if failed:
        return _absent(name, request, "filtered", unmatched=failed)
    words = {word: clauses.mentions(word) for word in request.terms.text.split()}
    matched = await _part_scores(index, name, words)
    return _absent(name, request, "no_match", unmatched=[word for word in words if word not in matched])


def _found(
    request: SearchRequest,
    document: Document,
    hit: Mapping[str, Any],
    above: int,
    evidence: list[Evidence],
    max_popularity: float,
) -> Explanation:
    matched = hit.get("matched_queries", ())
    tier: Literal["exact", "compact", "text"] = "text"
    if "exact" in matched or "compact" in matched:
        tier = "exact" if "exact" in matched else "compact"
    factors = _factors(document, max_popularity)
    main_reason = "its popularity, as the query has no words"
    if request.terms.text:
        strongest = max(evidence, key=lambda each: sum(part["worth"] for part in each["parts"]), default=None)
        main_reason = strongest["kind"] if strongest else "a similar name or description"
    demoted = " It is deprecated, which lowers its score." if document["deprecated"] else ""
    return {
        "name": document["name"],
        "query": request.q,
        "found": True,
        "reason": "found",
        "explanation": f"Position {above + 1}, mainly because of {main_reason}.{demoted}",
        "position": above + 1,
        "score": page.score(request.terms.text, document["name"], hit["_score"], matched),
        "rank": round(hit["_score"], 3),
        "tier": tier,
        "evidence": evidence,
        "factors": factors,
        "demotion": query.DEPRECATED_FACTOR if document["deprecated"] else 1.0,
        "unmatched": [],
    }


def _factors(document: Document, max_popularity: float) -> list[Factor]:
    """The parts by which the evidence is multiplied. Their sum plus 1 is the multiplier."""
    clients, downloads = math.expm1(document["popularity"]), document["downloads"]
    return [
        {
            "part": "popularity",
            "worth": round(query.POPULARITY * (document["popularity"] / max_popularity) ** 2, 3),
            "because": (
                f"It has {downloads:,} downloads, which count as {clients:,.1f} clients. A client is one address on "
                "one day of the last year, without mirrors and bots. The weight of a day halves every "
                f"{store.HALF_LIFE} days."
            ),
        },
        {
            "part": "quality",
            "worth": round(query.QUALITY * document["quality"], 3),
            "because": "The share of README, licence, repository, keywords and homepage that it has.",
        },
        {
            "part": "freshness",
            "worth": round(query.FRESHNESS * _freshness(document["published_at"]), 3),
            "because": f"Its latest version was published on {document['published_at'][:10]}.",
        },
    ]


def _absent(
    name: str, request: SearchRequest, reason: Reason, *, unmatched: list[str] | None = None, more: str = ""
) -> Explanation:
    lacking = ", ".join(unmatched or ["all words of the query together"])
    return {
        "name": name,
        "query": request.q,
        "found": False,
        "reason": reason,
        "explanation": _ABSENT[reason].format(unmatched=lacking) + more,
        "position": None,
        "score": 0.0,
        "rank": 0.0,
        "tier": "none",
        "evidence": [],
        "factors": [],
        "demotion": 1.0,
        "unmatched": unmatched or [],
    }


def _freshness(published_at: str) -> float:
    """The same decay as in the query: 1 up to FRESH_OFFSET_DAYS, and 0.5 after FRESH_SCALE_DAYS more."""
    age = (datetime.now(UTC) - datetime.fromisoformat(published_at)).total_seconds() / 86400
    beyond = max(0.0, age - query.FRESH_OFFSET_DAYS)
    return math.exp(math.log(0.5) * (beyond / query.FRESH_SCALE_DAYS) ** 2)
