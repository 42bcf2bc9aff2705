"""Any metadata is published or refused in words, and what is published comes back from the database in every answer."""

import asyncio
import json
import os
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.package_format.fields import json_problem
from tests.client import Registry, User, tarball
from tests.packages.test_manifest_http import read_everything

EXAMPLES = int(os.environ.get("REGISTRY_FUZZ_EXAMPLES", "40"))

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
NUMBERS = (
    st.integers(-(10**308), 10**308).map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-2]?[0-9]{1,2})?", fullmatch=True)
)
JSON_TEXTS = st.recursive(
    NUMBERS | TEXTS.map(json.dumps) | st.sampled_from(["null", "true", " false", r'"\ud83d\ude00"', r'"\/"']),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: "[" + " ,\n".join(parts) + "]")
        | st.dictionaries(TEXTS.map(json.dumps), inner, max_size=4).map(
            lambda members: "{" + ",\t".join(f"{name} :{part}" for name, part in members.items()) + "}"
        )
    ),
    max_leaves=12,
)
GOOD = {
    "author": ['"Ada \\u00fc %s"', '{"name": "Ada", "n": 1e308}', "null"],
    "license": ['"MIT"', '{"type": "MIT", "n": 18446744073709551616}'],
    "homepage": ['"https://example.com/\\u00fc"'],
    "repository": ['"u/r"', '{"url": "https://example.com", "n": [1e-300]}'],
    "keywords": ['["a", "\\ud83d\\ude00", "%(x)s"]', "[]"],
    "dependencies": ['{"other": "^1.2"}', "{}"],
}
VALID = st.fixed_dictionaries({}, optional={name: st.sampled_from(texts) for name, texts in GOOD.items()})
ANY = st.dictionaries(st.sampled_from([*GOOD]), JSON_TEXTS, min_size=1, max_size=1)
KNOWN = st.tuples(VALID, st.integers(0, 3).flatmap(lambda die: ANY if die == 3 else st.just({}))).map(
    lambda parts: parts[0] | parts[1]
)


async def test_any_metadata_comes_back_from_the_database(registry: Registry):
    """One package holds all examples, each as a version of its own."""
    ada, root = await registry.user("ada"), await registry.user("root", admin=True)
    loop = asyncio.get_running_loop()
    published: list[Any] = [await ada.publish("demo")]
    refused = 0

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @given(KNOWN, JSON_TEXTS.filter(lambda text: not json_problem(json.loads(text))))
    def run(known: dict[str, str], extra: str) -> None:
        nonlocal refused
        head = {"name": '"demo"', "version": f'"1.0.{len(published) + refused}"', "description": '"About"'}
        members = {**head, **known, "extra": extra}
        text = "{" + ", ".join(f'"{name}": {value}' for name, value in members.items()) + "}"
        answer = asyncio.run_coroutine_threadsafe(publish(ada, text), loop).result()
        if answer is None:
            refused += 1
        else:
            published.append(answer)

    await asyncio.to_thread(run)
    assert len(published) > EXAMPLES // 4
    await read_everything(registry, ada, root, published[-1]["seq"])


async def publish(user: User, text: str) -> Any:
    """The answer for a manifest of this text, None when it is refused. Reads what was published."""
    version = json.loads(text)["version"]
    answer = await user.put("demo", version, data=tarball(text.encode()))
    if answer.status == 400:
        assert answer.json["errors"], answer.body
        return None
    assert answer.status == 201, (text, answer.body)
    for method, path, body in (
        ("GET", f"/packages/demo/{version}", None),
        ("PATCH", f"/packages/demo/{version}", {"yanked": True, "reason": "r"}),
        ("PATCH", f"/packages/demo/{version}", {"yanked": False}),
    ):
        read = await user.call(method, path, **({"json": body} if body else {}))
        assert read.status == 200, (method, text, read.body)
        assert (b'"manifest":' + text.encode() + b",") in read.body
        orjson.loads(read.body)
    for path in ("/packages/demo", "/packages/demo/stats", "/packages", "/search?q=demo"):
        read = await user.registry.get(path)
        assert read.status == 200, (path, text, read.body)
        orjson.loads(read.body)
    return answer.json
