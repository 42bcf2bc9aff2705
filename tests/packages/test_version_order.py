"""PostgreSQL and Python sort versions as SemVer specifies."""

from functools import cmp_to_key

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.db.engine import Database, Statement
from registry.package_format.versions import parse

ORDERED = Statement(
    'SELECT version FROM unnest(%(versions)s::text[], %(keys)s::text[]) AS t (version, key) ORDER BY key COLLATE "C"',
    {},
)
PUBLISHED_KEYS = Statement(
    "SELECT collation_name FROM information_schema.columns "
    "WHERE table_name = 'package_versions' AND column_name = 'sort_key'",
    {},
)
NUMBERS = st.one_of(st.integers(0, 12), st.integers(0, 10**30)).map(str)
WORDS = st.from_regex(r"[0-9]{0,2}[A-Za-z-][0-9A-Za-z-]{0,4}", fullmatch=True)
PRERELEASES = st.lists(st.one_of(NUMBERS, WORDS, st.sampled_from(["alpha", "beta", "rc"])), max_size=4)
VERSIONS = st.builds(
    lambda core, pre: ".".join(core) + ("-" + ".".join(pre) if pre else ""),
    st.lists(NUMBERS, min_size=3, max_size=3),
    PRERELEASES,
)


def compare(one: str, other: str) -> int:
    """Compares as SemVer 2.0.0, section 11, describes it. The result is negative if `one` comes first."""
    (core, _, pre), (other_core, _, other_pre) = one.partition("-"), other.partition("-")
    numbers, other_numbers = [int(n) for n in core.split(".")], [int(n) for n in other_core.split(".")]
    if numbers != other_numbers:
        return -1 if numbers < other_numbers else 1
    if not pre or not other_pre:
        return (not pre) - (not other_pre)
    for left, right in zip(pre.split("."), other_pre.split("."), strict=False):
        if left == right:
            continue
        if left.isdigit() and right.isdigit():
            return -1 if int(left) < int(right) else 1
        if left.isdigit() or right.isdigit():
            return -1 if left.isdigit() else 1
        return -1 if left < right else 1
    return pre.count(".") - other_pre.count(".")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(versions=st.lists(VERSIONS, min_size=2, max_size=30, unique=True))
def test_python_sorts_versions_as_semver_specifies(versions: list[str]):
    by_key = sorted(versions, key=lambda text: parse(text).sort_key)
    assert by_key == sorted(versions, key=cmp_to_key(compare))


async def test_postgresql_sorts_versions_like_python(db: Database):
    chosen: list[list[str]] = []

    @settings(max_examples=40, deadline=None, database=None)
    @given(versions=st.lists(VERSIONS, min_size=2, max_size=40, unique=True))
    def choose(versions: list[str]) -> None:
        chosen.append(versions)

    choose()
    assert len(chosen) >= 10
    for versions in chosen:
        parsed = [parse(text) for text in versions]
        async with db.read() as conn:
            rows = await conn.all(ORDERED, versions=versions, keys=[version.sort_key for version in parsed])
        assert [row.version for row in rows] == [version.text for version in sorted(parsed)]


async def test_the_column_of_sort_keys_compares_bytes(db: Database):
    async with db.read() as conn:
        assert await conn.value(PUBLISHED_KEYS) == "C"
