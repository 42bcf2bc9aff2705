"""HTTP handlers of webhooks."""

from collections.abc import Callable
from typing import Any

from aiohttp import web
from typing_extensions import TypedDict

from registry.accounts.requests import id_of, no_store, principal_of
from registry.errors import Conflict, InvalidInput
from registry.keys import DB
from registry.packages.requests import visible_name
from registry.web import paging
from registry.web.parsing import Body, read_body
from registry.web.responses import json_response
from registry.web.route import READS, SIGNED_IN, Route, group
from registry.webhooks import hooks
from registry.webhooks.bodies import WEBHOOKS, NewWebhook, Redelivery, WebhookChange
from registry.webhooks.deliveries import log
from registry.webhooks.keys import CHANGES, GUARD, SEALER


class WebhooksPage(TypedDict):
    webhooks: list[hooks.Webhook]
    next_cursor: str | None
    limit: int


class DeliveriesPage(TypedDict):
    deliveries: list[log.Delivery]
    next_cursor: str | None
    limit: int


async def create_webhook(request: web.Request) -> web.StreamResponse:
    """Makes a webhook for one package, for all packages that you own, or (admins) for all packages. Only this answer
    has the `secret` that signs its requests.
    """
    who = principal_of(request)
    who.require("manage")
    body = await read_body(request, NewWebhook)
    scope, package = body.scope
    if package is not None:
        package = visible_name(request, package)
    wanted = hooks.Wanted(body.url, scope, package, body.events, body.description)
    made = await hooks.create(request.app[DB], request.app[SEALER], request.app[GUARD], who, wanted)
    return no_store(made, status=201)


async def list_webhooks(request: web.Request) -> web.StreamResponse:
    """Your webhooks, page by page, without their secrets."""
    limit, after = paging.page_of(request, "webhooks")
    found = await hooks.list_hooks(request.app[DB], principal_of(request), after, limit + 1)
    return no_store(paging.page("webhooks", found, limit))


async def get_webhook(request: web.Request) -> web.StreamResponse:
    """One of your webhooks, without its secret."""
    found = await hooks.get(request.app[DB], principal_of(request), _id_of(request))
    return no_store(found)


async def update_webhook(request: web.Request) -> web.StreamResponse:
    """Changes the address, the events or the description of a webhook, or disables and enables it."""
    who, webhook = principal_of(request), _id_of(request)
    who.require("manage")
    body = await read_body(request, WebhookChange)
    wanted = hooks.Change(body.url, body.events, body.description, body.enabled)
    changed = await hooks.change(request.app[DB], request.app[GUARD], who, webhook, wanted)
    return no_store(changed)


async def delete_webhook(request: web.Request) -> web.StreamResponse:
    """Deletes a webhook and its deliveries."""
    await hooks.delete(request.app[DB], principal_of(request), _id_of(request))
    return web.Response(status=204)


async def rotate_webhook_secret(request: web.Request) -> web.StreamResponse:
    """Makes a new secret. For 24 hours, both secrets sign each request."""
    rotated = await hooks.rotate(request.app[DB], request.app[SEALER], principal_of(request), _id_of(request))
    return no_store(rotated)


async def ping_webhook(request: web.Request) -> web.StreamResponse:
    """Sends a request of the type `ping` to the webhook, to try it out."""
    queued = await log.ping(request.app[DB], principal_of(request), _id_of(request))
    return json_response(queued, status=202)


async def list_deliveries(request: web.Request) -> web.StreamResponse:
    """What was sent to a webhook, newest first, with every attempt and its answer."""
    limit, before = paging.page_of(request, "deliveries", start=paging.NEWEST)
    found = await log.deliveries(request.app[DB], principal_of(request), _id_of(request), before, limit + 1)
    page = paging.page("deliveries", found, limit, key="number")
    page["deliveries"] = log.without_numbers(page["deliveries"])
    return no_store(page)


async def redeliver(request: web.Request) -> web.StreamResponse:
    """Sends one delivery again, with the same id, or all changes of a range of seqs as new deliveries."""
    who, webhook, db = principal_of(request), _id_of(request), request.app[DB]
    who.require("manage")
    body = await read_body(request, Redelivery)
    is_range = body.from_seq is not None or body.to_seq is not None
    if (body.delivery is not None) == is_range:
        raise InvalidInput.field("delivery", "or from_seq and to_seq must be given, but not both")
    if body.delivery is not None:
        queued = await log.redeliver(db, who, webhook, body.delivery)
    elif body.from_seq is None or body.to_seq is None:
        raise InvalidInput.field("from_seq", "and to_seq must be given together")
    else:
        queued = await log.redeliver_range(db, request.app[CHANGES], who, webhook, body.from_seq, body.to_seq)
    return json_response(queued, status=202)


def _id_of(request: web.Request) -> int:
    return id_of(request, hooks.NO_WEBHOOK)


def _json(model: type[Body]) -> dict[str, type[Body]]:
    return {"application/json": model}


def _route(method: str, path: str, handler: Callable[..., Any], summary: str, answers: Any, **more: Any) -> Route:
    limit = READS if method == "GET" else WEBHOOKS
    return Route(method, f"/api/v1/webhooks{path}", handler, summary, SIGNED_IN, limit, answers=answers, **more)


_HOOK = {"url": "https://example.com/hook", "scope": {"package": "hello-world"}, "events": ["version.published"]}
ROUTES = group(
    "Webhooks",
    _route("POST", "", create_webhook, "Make a webhook", {201: hooks.Webhook}, body=_json(NewWebhook),
           errors=(404, Conflict), example=_HOOK),
    _route("GET", "", list_webhooks, "Your webhooks", {200: WebhooksPage}, parameters=paging.PARAMETERS),
    _route("GET", "/{id}", get_webhook, "One of your webhooks", {200: hooks.Webhook}),
    _route("PATCH", "/{id}", update_webhook, "Change, disable or enable a webhook", {200: hooks.Webhook},
           body=_json(WebhookChange), example={"enabled": True}),
    _route("DELETE", "/{id}", delete_webhook, "Delete a webhook", {204: None}),
    _route("POST", "/{id}/rotate", rotate_webhook_secret, "Make a new secret; the old one also signs for 24 hours",
           {200: hooks.Rotated}),
    _route("POST", "/{id}/ping", ping_webhook, "Send a ping to the webhook", {202: log.Queued}, errors=(Conflict,)),
    _route("GET", "/{id}/deliveries", list_deliveries, "What was sent to the webhook, newest first",
           {200: DeliveriesPage}, parameters=paging.PARAMETERS),
    _route("POST", "/{id}/redeliver", redeliver, "Send one delivery, or a range of changes, again",
           {202: log.Queued}, body=_json(Redelivery), errors=(Conflict,),
           example={"from_seq": 100, "to_seq": 120}),
)  # fmt: skip
