"""A page of the audit log: its filters, its entries in words, and the same entries as CSV."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from multidict import MultiDict

from registry.audit.read import AuditEntry, AuditPage
from registry.audit.requests import csv_response, is_csv, wanted
from registry.errors import InvalidInput
from registry.pages.forms import Form
from registry.pages.frame import render

MAX_VALUE = 300

Read = Callable[..., Awaitable[AuditPage]]
"""Reads a page of entries by (filters, id below which they are, number)."""


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of the audit log as the page shows it. `facts` are (name, text) from the entry's details.

    `by` is the API token or the workflow that acted for the user, or "".
    """

    at: datetime
    action: str
    actor: str | None
    by: str
    ip: str | None
    user_agent: str | None
    package: str | None
    version: str | None
    facts: list[tuple[str, str]]


async def answer(request: web.Request, template: str, read: Read, *, title: str, **values: Any) -> web.StreamResponse:
    """The page of the entries that the query wants, or the file if it asks for CSV. `values` are for the template.

    Wrong filters are a page of 400, which shows what is wrong with them.
    """
    # A form sends a field that was left empty as "".
    given = {name: value for name, value in request.query.items() if value}
    form, status = Form(MultiDict(given)), 200
    page: AuditPage = {"entries": [], "next_cursor": None, "limit": 0}
    try:
        page = await read(*wanted(given))
    except InvalidInput as error:
        form, status = form.refused(error), error.status
    else:
        if is_csv(given):
            return await csv_response(page)
    filters = {name: value for name, value in given.items() if name not in ("cursor", "format", "limit")}
    return render(
        request,
        template,
        title=title,
        status=status,
        form=form,
        lines=[line(entry) for entry in page["entries"]],
        filtered=bool(filters),
        newest=_link(filters) if "cursor" in given else "",
        older=_link({**filters, "cursor": page["next_cursor"]}) if page["next_cursor"] else "",
        csv=_link({**filters, "format": "csv"}),
        **values,
    )


def line(entry: AuditEntry) -> Line:
    """The entry in words."""
    token, publisher = entry["token"], entry["publisher"]
    by = ""
    if publisher is not None:
        by = f"workflow of {publisher.get('repository') or publisher.get('issuer')}"
    elif token is not None:
        by = f"token {token['name']}"
    return Line(
        entry["at"],
        entry["action"],
        entry["actor"]["username"],
        by,
        entry["ip"],
        entry["user_agent"],
        entry["package"],
        entry["version"],
        list(_facts(entry["details"])),
    )


def _facts(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in details.items():
        text = _text(value)
        if text:
            yield name.replace("_", " "), text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"


def _text(value: Any) -> str:
    """A value of the details. An object that names a user is the name, with the role if it has one."""
    if value is None or value is False:
        return ""
    if value is True:
        return "yes"
    if isinstance(value, list):
        return ", ".join(filter(None, map(_text, value)))
    if isinstance(value, Mapping):
        if "username" in value:
            role = value.get("role")
            return f"{value['username']} ({role})" if role else str(value["username"])
        return ", ".join(f"{name}: {text}" for name, each in value.items() if (text := _text(each)))
    return str(value)


def _link(values: Mapping[str, str | None]) -> str:
    return f"?{urlencode({name: value for name, value in values.items() if value})}"
