"""The request bodies of webhooks, and their rate limit, which the API and the pages share."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from registry.web.parsing import Body
from registry.web.route import Limit
from registry.webhooks import hooks, store
from registry.webhooks.guard import MAX_URL

MAX_DESCRIPTION = 500
MAX_SEQ = (1 << 53) - 1
WEBHOOKS = Limit("webhook", "50/hour")


def _check_events(events: list[str]) -> list[str]:
    unknown = [each for each in events if each not in hooks.EVENTS]
    if unknown:
        raise ValueError(f"has unknown events; known are {', '.join(sorted(hooks.EVENTS))}")
    return events


Url = Annotated[str, Field(min_length=1, max_length=MAX_URL)]
Events = Annotated[
    list[str],
    Field(min_length=1, max_length=100, json_schema_extra={"items": {"type": "string", "enum": sorted(hooks.EVENTS)}}),
    AfterValidator(_check_events),
]
Description = Annotated[str, Field(max_length=MAX_DESCRIPTION)]
Seq = Annotated[int, Field(ge=0, le=MAX_SEQ)]


def _parse_scope(value: Any) -> tuple[str, str | None]:
    """(scope in the store, name of the package or None)."""
    if value == "all":
        return store.ALL, None
    if value == {"owner": "me"}:
        return store.OWNED, None
    if isinstance(value, dict) and value.keys() == {"package"} and isinstance(value["package"], str):
        return store.PACKAGE, value["package"]
    raise ValueError('must be {"package": "name"}, {"owner": "me"} or "all"')


def _object(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [name], "additionalProperties": False, "properties": {name: schema}}


Scope = Annotated[
    tuple[str, str | None],
    PlainValidator(_parse_scope),
    WithJsonSchema(
        {
            "oneOf": [
                _object("package", {"type": "string"}),
                _object("owner", {"type": "string", "enum": ["me"]}),
                {"type": "string", "enum": ["all"]},
            ]
        }
    ),
]


class NewWebhook(Body):
    """Where to send which changes. The scope `all` is for admins."""

    url: Url
    scope: Scope
    events: Annotated[Events, Field(default_factory=lambda: ["*"])]
    description: Description = ""


class WebhookChange(Body):
    """The members to change."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: bool | None = None


class Redelivery(Body):
    """Either one delivery, or the changes from one seq to another, both included."""

    delivery: Annotated[str, Field(max_length=100)] | None = None
    from_seq: Seq | None = None
    to_seq: Seq | None = None
