"""The reference of the API: what its pages show, made from the OpenAPI description."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup, escape

ERROR = "Problem"
"""The schema of every error. It has a place of its own on the first page."""

_REFS = "#/components/schemas/"
_LIMITS = {
    "minLength": "at least {} characters", "maxLength": "at most {} characters", "minimum": "at least {}",
    "maximum": "at most {}", "minItems": "at least {} entries", "maxItems": "at most {} entries",
    "default": "default {}", "pattern": "pattern {}",
}  # fmt: skip
_FORMATS = {"date-time": "time", "binary": "bytes", "uuid": "UUID"}
_CODE = re.compile(r"`([^`]+)`")
_TOKEN = "Authorization: Bearer $TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True)
class Member:
    """A parameter of an operation, or a member of a schema. `place` is where a parameter stands, such as `query`."""

    name: str
    kind: Markup
    text: Markup
    is_required: bool
    place: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is the schema or the media type of the answer, empty without a body."""

    status: str
    text: Markup
    body: Markup


@dataclass(frozen=True, slots=True)
class Schema:
    """A named schema. An object has `members`; `kind` says what any other schema is."""

    name: str
    text: Markup
    kind: Markup
    members: tuple[Member, ...]

    @property
    def anchor(self) -> str:
        return anchor_of(self.name)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `body` has (media type, schema) pairs. `curl` is a command that calls it."""

    id: str
    method: str
    path: str
    summary: str
    text: Markup
    access: str
    parameters: tuple[Member, ...]
    body: tuple[tuple[str, Markup], ...]
    example: str
    answers: tuple[Answer, ...]
    errors: tuple[Answer, ...]
    curl: str
    words: str

    @property
    def shown_path(self) -> Markup:
        """The path, which a browser may break after each slash."""
        return Markup("/<wbr>").join(self.path.split("/"))

    def matches(self, words: Iterable[str]) -> bool:
        return all(word in self.words for word in words)


@dataclass(frozen=True, slots=True)
class Group:
    """The operations with one tag, and the schemas that they name."""

    name: str
    text: str
    operations: tuple[Operation, ...]
    schemas: tuple[Schema, ...]

    @property
    def slug(self) -> str:
        return self.name.lower().replace(" ", "-")


class Reference:
    """The pages of a description. `base` is the address of the registry, which stands in the examples."""

    def __init__(self, document: Mapping[str, Any], base: str) -> None:
        self._document = document
        self._base = base
        self._schemas: Mapping[str, Any] = document["components"]["schemas"]

    @cached_property
    def groups(self) -> Mapping[str, Group]:
        """The groups by slug, in their order."""
        found = [self._group(tag["name"], tag["description"]) for tag in self._document["tags"]]
        return {group.slug: group for group in found}

    @cached_property
    def error_schemas(self) -> tuple[Schema, ...]:
        return self._shown({"$ref": _REFS + ERROR})

    def _group(self, name: str, text: str) -> Group:
        described = [
            (method, path, operation)
            for path, operations in self._document["paths"].items()
            for method, operation in operations.items()
            if operation["tags"][0] == name
        ]
        errors = {schema.name for schema in self.error_schemas}
        schemas = self._shown([operation for _, _, operation in described])
        return Group(
            name,
            text,
            tuple(self._operation(*each) for each in described),
            tuple(schema for schema in schemas if schema.name not in errors),
        )

    def _operation(self, method: str, path: str, operation: Mapping[str, Any]) -> Operation:
        content = operation.get("requestBody", {}).get("content", {})
        example = content.get("application/json", {}).get("example")
        answers = [_answer(status, answer) for status, answer in operation["responses"].items()]
        return Operation(
            id=operation["operationId"].replace("_", "-"),
            method=method.upper(),
            path=path,
            summary=_CODE.sub(r"“\1”", operation["summary"]),
            text=paragraphs(operation["description"]),
            access=_access(operation["security"]),
            parameters=tuple(_parameter(each) for each in operation["parameters"]),
            body=tuple((media, kind_of(each["schema"])) for media, each in content.items()),
            example="" if example is None else json.dumps(example, indent=2, ensure_ascii=False),
            answers=tuple(answer for answer in answers if answer.status < "4"),
            errors=tuple(answer for answer in answers if answer.status >= "4"),
            curl=_curl(self._base, method.upper(), path, operation),
            words=f"{method} {path} {operation['summary']} {operation['description']}".lower(),
        )

    def _shown(self, part: Any) -> tuple[Schema, ...]:
        """The named schemas that `part` of the description refers to, directly or not, by name."""
        names: set[str] = set()
        pending = [part]
        while pending:
            for name in set(_references(pending.pop())) - names:
                names.add(name)
                pending.append(self._schemas[name])
        return tuple(_schema(name, self._schemas[name]) for name in sorted(names))


def anchor_of(schema: str) -> str:
    return f"schema-{schema.lower()}"


def paragraphs(text: str) -> Markup:
    """A docstring as HTML: paragraphs, and `code`."""
    parts = (part for part in text.split("\n\n") if part.strip())
    return Markup("").join(Markup("<p>{}</p>").format(line(part)) for part in parts)


def line(text: str) -> Markup:
    """A text in which backquotes mark code, as HTML."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(" ".join(text.split())))))  # noqa: S704 - escaped


def kind_of(schema: Mapping[str, Any]) -> Markup:
    """What a schema accepts, as HTML: `string`, `list of` a link to a named schema, `"a" or "b"`."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REFS)
        href = f"/docs#{anchor_of(name)}" if name == ERROR else f"#{anchor_of(name)}"
        return Markup('<a href="{}">{}</a>').format(href, name)
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return _either([Markup("<code>{}</code>").format(json.dumps(value)) for value in values])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return _either([kind_of(each) for each in schema[several]])
    kind = schema.get("type")
    if kind == "array":
        return Markup("list of {}").format(kind_of(schema.get("items", {})))
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return Markup("object of {}").format(kind_of(schema["additionalProperties"]))
    if kind == "string" and schema.get("format") in _FORMATS:
        return escape(_FORMATS[schema["format"]])
    if isinstance(kind, list):
        return _either([escape(each) for each in kind])
    return escape(kind or "any value")


def _either(kinds: list[Markup]) -> Markup:
    return Markup(" or ").join(dict.fromkeys(kinds))


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"].removeprefix(_REFS)
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _references(value)


def _schema(name: str, schema: Mapping[str, Any]) -> Schema:
    members = schema.get("properties", {})
    required = schema.get("required", ())
    return Schema(
        name,
        paragraphs(schema.get("description", "")),
        Markup("") if members else kind_of(schema),
        tuple(Member(each, kind_of(member), _notes(member), each in required) for each, member in members.items()),
    )


def _notes(schema: Mapping[str, Any]) -> Markup:
    """The description and the limits of a schema."""
    limits = [
        text.format(f"`{_written(schema[name])}`" if name in ("default", "pattern") else schema[name])
        for name, text in _LIMITS.items()
        if schema.get(name) not in (None, "")
    ]
    description = schema.get("description", "")
    if not limits:
        return line(description)
    listed = ", ".join(limits)
    return line(f"{description} ({listed})" if description else listed)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _parameter(parameter: Mapping[str, Any]) -> Member:
    schema = parameter["schema"]
    # The grammar of a name in the path is of no use to who reads the page.
    limits = {name: value for name, value in schema.items() if name != "pattern" or parameter["in"] != "path"}
    text = _notes({**limits, "description": parameter["description"]})
    return Member(parameter["name"], kind_of(schema), text, parameter["required"], parameter["in"])


def _answer(status: str, answer: Mapping[str, Any]) -> Answer:
    content = answer.get("content", {})
    bodies = [
        kind_of(each["schema"]) if media == "application/json" else escape(media) for media, each in content.items()
    ]
    return Answer(status, line(answer["description"]), _either(bodies) if status < "4" else Markup(""))


def _access(security: list[Mapping[str, Any]]) -> str:
    if not security:
        return "Anyone may call it."
    return "Works with and without a token." if {} in security else "Needs a token."


def _curl(base: str, method: str, path: str, operation: Mapping[str, Any]) -> str:
    """A command that calls an operation, with the examples of the description."""
    query: list[tuple[str, str]] = []
    for parameter in operation["parameters"]:
        example = str(parameter.get("example", parameter["name"].upper()))
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", quote(example))
        elif parameter["in"] == "query" and parameter["required"]:
            query.append((parameter["name"], example))
    words = ["curl", *([] if method == "GET" else ["-X", method]), f"{base}{path}{'?' * bool(query)}{urlencode(query)}"]
    command = shlex.join(words)
    if operation["security"] and {} not in operation["security"]:
        command += f' -H "{_TOKEN}"'
    content = operation.get("requestBody", {}).get("content", {})
    example = content.get("application/json", {}).get("example")
    if example is not None:
        data = shlex.quote(json.dumps(example, ensure_ascii=False))
        return f"{command} -H 'Content-Type: application/json' -d {data}"
    if content and "application/json" not in content:
        return f"{command} -T package.tar.gz"
    return command
