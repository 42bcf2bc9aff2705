"""Generates the OpenAPI 3.1 description from the routes, and an HTML page from the description."""

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from pydantic import BaseModel, TypeAdapter

from registry.web.access import needs_credentials
from registry.web.problems import Problem
from registry.web.route import OPEN, Route

_REFS = "#/components/schemas/{model}"
DESCRIPTION = "Publish, find and install packages. Every error has the shape `Problem`; its `code` is stable."
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
    parameters: Mapping[str, Any],
    security: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The API description.

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
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": dict(security),
        },
    }  # fmt: skip


def _operation(route: Route, schemas: dict[str, Any], private: bool, shared: Mapping[str, Any]) -> dict[str, Any]:
    inside = [shared[name] for name in re.findall(r"\{(\w+)", route.path)]
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path.removeprefix('/api/v1')}").strip("_"),
        "summary": route.summary,
        "parameters": [*inside, *route.parameters],
        "responses": {str(status): _answer(status, kind, schemas) for status, kind in sorted(route.answers.items())},
    }
    if route.body:
        operation["requestBody"] = {"required": route.body.get("x-required", True), "content": _content(route, schemas)}
    if route.access != OPEN:
        needed = needs_credentials(route, private=private)
        operation["security"] = [{route.credentials: []}] if needed else [{}, {route.credentials: []}]
    for status in sorted(_errors(route)):
        operation["responses"].setdefault(str(status), _problem(status))
    if route.limit is not None:
        for answer in operation["responses"].values():
            answer["headers"] = RATE_HEADERS
    return operation


def _errors(route: Route) -> set[int]:
    always = {400, 503}
    if route.limit is not None:
        always.add(429)
    if route.access != OPEN:
        always |= {401, 403}
    if "{" in route.path:
        always.add(404)
    if route.method in ("POST", "PUT", "PATCH"):
        always |= {408, 413, 415}
    return always | set(route.errors)


def _problem(status: int) -> dict[str, Any]:
    ref = {"$ref": _REFS.format(model="Problem")}
    return {
        "description": STATUS_TEXT[status],
        "content": {"application/json": {"schema": ref}, "application/problem+json": {"schema": ref}},
    }


def _content(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    return {media: {"schema": _schema(kind, schemas)} for media, kind in (route.body or {}).items() if "/" in media}


def _answer(status: int, kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """`kind` is None (no body), a media type for plain bytes, a type that pydantic describes, or a tuple of those."""
    answer: dict[str, Any] = {"description": STATUS_TEXT[status]}
    content: dict[str, Any] = {}
    for each in kind if isinstance(kind, tuple) else (kind,):
        if isinstance(each, str):
            content[each] = {"schema": {} if each.startswith("application/") else {"type": "string"}}
        elif each is not None:
            content["application/json"] = {"schema": _schema(each, schemas)}
    return {**answer, "content": content} if content else answer


def _schema(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """A `$ref` to the schema of `kind`, which is added to `schemas`. A dict is a schema itself."""
    if isinstance(kind, dict):
        return kind
    is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
    described = TypeAdapter(kind).json_schema(ref_template=_REFS, mode="validation" if is_model else "serialization")
    schemas.update(described.pop("$defs", {}))
    schemas[kind.__name__] = described
    return {"$ref": _REFS.format(model=kind.__name__)}


def page(spec: Mapping[str, Any]) -> str:
    """The description as one HTML page without scripts."""
    rows = []
    for path, operations in spec["paths"].items():
        for method, operation in operations.items():
            named = "".join(
                f"<li><code>{escape(p['name'])}</code> <i>{escape(p['in'])}</i> {escape(p.get('description', ''))}</li>"
                for p in operation["parameters"]
            )
            answers = ", ".join(
                f"<code>{status}</code> {escape(answer['description'])}"
                for status, answer in operation["responses"].items()
            )
            rows.append(
                f"<details><summary><b class={method}>{method.upper()}</b> <code>{escape(path)}</code> "
                f"<span>{escape(operation['summary'])}</span></summary><ul>{named}</ul><p>{answers}</p></details>"
            )
    return PAGE.format(title=escape(spec["info"]["title"]), version=escape(spec["info"]["version"]), rows="".join(rows))


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title} API</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d2733 }}
details {{ border: 1px solid #d8dee6; border-radius: 6px; margin: .4rem 0; padding: .45rem .8rem }}
summary {{ cursor: pointer }} summary span {{ color: #5a6b7d; float: right }}
b {{ display: inline-block; width: 4.2rem; font: bold 12px ui-monospace, monospace; color: #1261a0 }}
b.post, b.put, b.patch {{ color: #1a7f37 }} b.delete {{ color: #b42318 }}
code {{ font: 13px ui-monospace, monospace }}
@media (max-width: 40rem) {{ summary span {{ float: none; display: block }} }}
</style></head><body>
<h1>{title} <small>{version}</small></h1>
<p>The machine-readable description is <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p>
{rows}
</body></html>
"""
