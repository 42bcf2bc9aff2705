"""The OpenAPI description is valid and complete."""

import json
import re
from typing import Any

import jsonschema_rs
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from registry import __version__
from registry.app import API
from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.web.shape import case


async def described(registry: Registry) -> Any:
    answer = await registry.get(f"{registry.url}/openapi.json")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    return answer.json


async def test_it_is_openapi_3_1(registry: Registry):
    spec = await described(registry)
    assert spec["openapi"].startswith("3.1.")
    assert spec["info"]["version"] == __version__
    errors = [f"{error.instance_path}: {error.message}" for error in OPENAPI_31_VALIDATOR.iter_errors(spec)]
    assert not errors


async def test_every_schema_in_it_is_json_schema(registry: Registry):
    spec = await described(registry)
    schemas = [*spec["components"]["schemas"].values()]
    for operations in spec["paths"].values():
        for operation in operations.values():
            schemas += [parameter["schema"] for parameter in operation["parameters"]]
            contents = [answer.get("content", {}) for answer in operation["responses"].values()]
            contents.append(operation.get("requestBody", {}).get("content", {}))
            schemas += [media["schema"] for content in contents for media in content.values()]
    for schema in schemas:
        jsonschema_rs.meta.validate(schema)


async def test_every_reference_in_it_resolves(registry: Registry):
    spec = await described(registry)
    references = re.findall(r'"\$ref":\s*"([^"]+)"', json.dumps(spec))
    assert references
    for reference in references:
        found = spec
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


async def test_it_describes_every_route_once_and_nothing_else(registry: Registry):
    spec = await described(registry)
    found = {f"{method.upper()} {path}" for path, operations in spec["paths"].items() for method in operations}
    assert found == {route.id for route in API if route.documented}
    ids = [operation["operationId"] for operations in spec["paths"].values() for operation in operations.values()]
    assert len(ids) == len(set(ids))


async def test_every_operation_has_a_name_a_tag_a_description_and_an_example(registry: Registry):
    spec = await described(registry)
    tags = {tag["name"] for tag in spec["tags"]}
    used = set()
    for path, operations in spec["paths"].items():
        for method, operation in operations.items():
            with case((method, path)):
                assert re.fullmatch("[a-z]+(_[a-z]+)*", operation["operationId"])
                assert operation["summary"]
                assert operation["description"].endswith(".")
                assert set(operation["tags"]) <= tags
                used |= set(operation["tags"])
                body = operation.get("requestBody", {"content": {}})["content"].get("application/json")
                assert body is None or body["example"]
    assert used == tags


async def test_it_names_the_codes_of_the_errors_of_an_operation(registry: Registry):
    publish = (await described(registry))["paths"]["/api/v1/packages"]["post"]["responses"]
    assert "`version_exists`, `version_burned`" in publish["409"]["description"]
    assert "`checksum_mismatch`" in publish["400"]["description"]


async def test_every_body_that_is_json_has_a_named_schema(registry: Registry):
    spec = await described(registry)
    for path, operations in spec["paths"].items():
        for method, operation in operations.items():
            contents = [operation.get("requestBody", {}), *operation["responses"].values()]
            schemas = [each["content"]["application/json"]["schema"] for each in contents if _has_json(each)]
            for schema in schemas:
                with case((method, path)):
                    item = schema.get("items", schema)
                    assert "$ref" in item or path == "/api/v1/openapi.json"


def _has_json(described_body: Any) -> bool:
    return "application/json" in described_body.get("content", {})


async def test_it_is_also_served_below_the_api_base(registry: Registry):
    assert (await registry.get("/openapi.json")).body == (await registry.get(f"{registry.url}/openapi.json")).body


async def test_it_says_where_credentials_are_needed(make_registry: MakeRegistry):
    needed, offered = [{"bearer": []}], [{}, {"bearer": []}]
    spec = await described(await make_registry())
    assert spec["paths"]["/api/v1/packages"]["get"]["security"] == offered
    assert spec["paths"]["/api/v1/packages"]["post"]["security"] == needed
    assert spec["paths"]["/api/v1/auth/login"]["post"]["security"] == []
    private = await described(await make_registry(REGISTRY_ACCESS="private"))
    assert private["paths"]["/api/v1/packages"]["get"]["security"] == needed
    assert private["paths"]["/api/v1/health"]["get"]["security"] == []
