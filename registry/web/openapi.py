"""Generates the OpenAPI 3.1 description from the routes."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import WithDefaultSchema

from registry.web.access import needs_credentials
from registry.web.problems import Problem
from registry.web.route import OPEN, Route

_REFS = "#/components/schemas/{model}"
DESCRIPTION = "Publish, find and install packages. Every error has the shape `Problem`; its `code` is stable."
_BYTES = {"type": "string", "format": "binary"}
STATUS_TEXT = {
    200: "OK", 201: "Created", 202: "Accepted, done in a moment", 204: "Done, no body",
    206: "The requested range of bytes",
    301: "The package has another spelling: see Location", 302: "The tarball is at Location", 304: "Unchanged",
    308: "The package has another spelling: repeat the request at Location",
    400: "Invalid input", 401: "Credentials missing or not valid", 403: "Not allowed", 404: "Not found",
    408: "The body came too slowly", 409: "Conflict", 412: "A precondition is not met", 413: "Too large",
    415: "Wrong content type", 416: "No such range", 429: "Too many requests",
    501: "Not configured in this registry", 503: "A required server is unavailable", 504: "Not reached in time",
}  # fmt: skip
RATE_HEADERS = {
    name: {"schema": {"type": "string"}, "description": text}
    for name, text in (
        ("RateLimit", "Requests left, and seconds until the window ends"),
        ("RateLimit-Policy", "The limit that applies"),
    )
}


def document(
    routes: Iterable[Route],
    *,
    version: str,
    private: bool,
    tags: Mapping[str, str],
    parameters: Mapping[str, Any],
    security: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The API description.

    `tags` has the description of each `Route.tag`, in the order in which readers see them.
    `parameters` holds the OpenAPI parameter of each `{name}` in a path. `security` holds the OpenAPI security scheme
    of each name in `Route.credentials`.
    """
    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.documented:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, private, parameters)
    _schema(Problem, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Synapse Package Registry",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
            "contact": {"name": "The operator of this registry"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": dict(security),
        },
    }  # fmt: skip


def _operation(route: Route, schemas: dict[str, Any], private: bool, shared: Mapping[str, Any]) -> dict[str, Any]:
    inside = [shared[name] for name in re.findall(r"\{(\w+)", route.path)]
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.tag],
        "summary": route.summary,
        "description": route.description,
        "security": _security(route, private),
        "parameters": [*inside, *route.parameters],
        "responses": {str(status): _answer(status, kind, schemas) for status, kind in sorted(route.answers.items())},
    }
    if route.body:
        operation["requestBody"] = {"required": route.body.get("x-required", True), "content": _content(route, schemas)}
    for status, codes in sorted(_errors(route).items()):
        operation["responses"].setdefault(str(status), _problem(status, codes))
    if route.limit is not None:
        for answer in operation["responses"].values():
            answer["headers"] = RATE_HEADERS
    return operation


def _security(route: Route, private: bool) -> list[dict[str, list[str]]]:
    if route.access == OPEN:
        return []
    needed: list[dict[str, list[str]]] = [{route.credentials: []}]
    return needed if needs_credentials(route, private=private) else [{}, *needed]


def _errors(route: Route) -> dict[int, list[str]]:
    """The statuses of the errors of a route, each with the codes that only some routes have."""
    always = {400, 503}
    if route.limit is not None:
        always.add(429)
    if route.access != OPEN:
        always |= {401, 403}
    if "{" in route.path:
        always.add(404)
    if route.method in ("POST", "PUT", "PATCH"):
        always |= {408, 413, 415}
    found: dict[int, list[str]] = {status: [] for status in always}
    for error in route.errors:
        if isinstance(error, int):
            found.setdefault(error, [])
        else:
            found.setdefault(error.status, []).append(error.code)
    return found


def _problem(status: int, codes: list[str]) -> dict[str, Any]:
    ref = {"$ref": _REFS.format(model="Problem")}
    named = f"; the code may be {', '.join(f'`{code}`' for code in codes)}" if codes else ""
    return {
        "description": f"{STATUS_TEXT[status]}{named}",
        "content": {"application/json": {"schema": ref}, "application/problem+json": {"schema": ref}},
    }


def _content(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    content = {media: {"schema": _schema(kind, schemas)} for media, kind in (route.body or {}).items() if "/" in media}
    if route.example is not None:
        content["application/json"]["example"] = route.example
    return content


def _answer(status: int, kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """`kind` is None (no body), a media type for plain bytes, a type that pydantic describes, or a tuple of those."""
    answer: dict[str, Any] = {"description": STATUS_TEXT[status]}
    content: dict[str, Any] = {}
    for each in kind if isinstance(kind, tuple) else (kind,):
        if isinstance(each, str):
            content[each] = {"schema": _BYTES if each.startswith("application/") else {"type": "string"}}
        elif each is not None:
            content["application/json"] = {"schema": _schema(each, schemas)}
    return {**answer, "content": content} if content else answer


class _WithoutDefaults(GenerateJsonSchema):
    """Leaves out default values: generators of TypeScript clients would make members that have one required."""

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def _schema(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """A `$ref` to the schema of `kind`, which is added to `schemas` under the name of the type or its title.

    A dict is a schema itself. A schema without a name is returned as it is.
    """
    if isinstance(kind, dict):
        described, name = kind, kind.get("title")
    else:
        is_typed_dict = isinstance(kind, type) and not issubclass(kind, BaseModel)
        mode: Any = "serialization" if is_typed_dict else "validation"
        described = TypeAdapter(kind).json_schema(ref_template=_REFS, mode=mode, schema_generator=_WithoutDefaults)
        for nested, schema in described.pop("$defs", {}).items():
            _add(nested, schema, schemas)
        name = described.get("title")
    if name is None:
        return described
    _add(name, described, schemas)
    return {"$ref": _REFS.format(model=name)}


def _add(name: str, schema: dict[str, Any], schemas: dict[str, Any]) -> None:
    if schemas.setdefault(name, schema) != schema:
        raise ValueError(f"Two schemas of the API have the name {name}.")
