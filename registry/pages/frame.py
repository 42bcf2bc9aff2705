"""What all pages share: rendering, headers, errors as pages, and redirects after a form."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp_jinja2
import jinja2
from aiohttp import hdrs, web
from markupsafe import Markup

from registry import __version__
from registry.accounts.identity import Principal
from registry.errors import NotFound, RegistryError
from registry.keys import SETTINGS
from registry.pages import cookies, csrf, static, text
from registry.pages.forms import CODE, PASSWORD, Form, NotConfirmed
from registry.web import problems
from registry.web.answers import NO_STORE, add_vary, compress
from registry.web.context import CONTEXT
from registry.web.responses import matches, tag_of
from registry.web.route import COOKIE, READ, READS, Handler, Limit, Route

LOGIN = "/login"
FACTORS = "/account/factors"
MAX_NEXT = 2000
CACHE_SECONDS = 60
MIN_COMPRESSED = 1000
# Pages can't be framed, send forms elsewhere, or run any script or style but our own files.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src {images}; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    # With `no-referrer`, browsers would send `Origin: null` with forms.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_HSTS = "max-age=31536000"
# Everything there is for programs, its errors too.
_API = re.compile(r"/(?:api|graphql|metrics)(?:/|\Z)")
HEADERS: web.AppKey[dict[str, str]] = web.AppKey("page_headers", dict)


def set_up(app: web.Application) -> None:
    """Prepares the templates. Call it once for each application."""
    settings = app[SETTINGS]
    aiohttp_jinja2.setup(
        app,
        loader=jinja2.PackageLoader("registry.pages"),
        autoescape=True,
        auto_reload=False,  # else each page would look at the times of its template files
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        filters=text.FILTERS,
    )
    environment = aiohttp_jinja2.get_env(app)
    public = settings.public_url or ""
    environment.globals |= {
        "site": urlsplit(settings.web.public_url).hostname or "Synapse",
        "public_url": public,
        "private": settings.accounts.access == "private",
        "registration": settings.accounts.registration == "open",
        "version": __version__,
        "asset": static.url,
        "read_only": settings.web.read_only,
    }
    images = " ".join(["'self' data:", *(f"https://{host}" for host in settings.web.image_hosts)])
    headers = {**_HEADERS, "Content-Security-Policy": _POLICY.format(images=images)}
    if public.startswith("https:"):
        headers[hdrs.STRICT_TRANSPORT_SECURITY] = _HSTS
    app[HEADERS] = headers


def page(
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    access: str = READ,
    limit: Limit | None = READS,
    parameters: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> Route:
    """The route of a page: the session cookie identifies its caller, and its errors are pages."""
    return Route(
        method, path, handler, summary, access, limit, parameters, credentials=COOKIE, documented=False,
        render_error=render_error, answers={200: "text/html"}, **more,
    )  # fmt: skip


def render(
    request: web.Request,
    template: str,
    *,
    title: str,
    description: str = "",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    keep: bool = True,
    **values: Any,
) -> web.Response:
    """A page. `values` are for the template.

    Caches keep the page of a stranger for a minute, unless `keep` is false or the page has a form to send. Pages of
    signed-in users are never kept.
    """
    principal = request[CONTEXT].principal
    user = principal if isinstance(principal, Principal) else None
    context = {
        "title": title,
        "description": description,
        "user": user,
        "path": quote(request.path),
        "here": request.path_qs,
        "theme": cookies.theme_of(request),
        "csrf": _CsrfInput(partial(csrf.token_for, request)),
        "query": "",
        **values,
    }
    body = aiohttp_jinja2.render_string(template, request, context).encode("utf-8", "replace")
    is_kept = keep and user is None and status == 200 and not csrf.has_form(request)
    return _response(request, body, status, headers or {}, is_kept=is_kept)


def see_other(path: str, done: str = "") -> web.Response:
    """Leads the browser to another page after a form. `done` tells that page which act to confirm in a sentence."""
    if done:
        path += ("&" if "?" in path else "?") + urlencode({"done": done})
    return web.Response(status=303, headers={hdrs.LOCATION: path, hdrs.CACHE_CONTROL: NO_STORE})


def local_path(given: str, default: str = "/") -> str:
    """`given` if it is the path of a page on this site, else `default`."""
    is_path = given.startswith("/") and len(given) <= MAX_NEXT and given.isascii() and given.isprintable()
    # Browsers read `//x` and `/\\x` as the addresses of other sites.
    return given if is_path and not given.startswith("//") and not {" ", "\\"} & set(given) else default


def render_error(request: web.Request, error: RegistryError, request_id: str) -> web.StreamResponse:
    """An error as a page. Strangers are led to the sign-in, and users without a required second factor to its page."""
    if error.status == 401:
        wanted = request.path_qs if request.method in ("GET", "HEAD") else _page_before(request)
        return see_other(f"{LOGIN}?{urlencode({'next': wanted})}")
    if error.code == "second_factor_needed":
        return see_other(FACTORS, "needed")
    if isinstance(error, NotConfirmed):
        return _render_confirmation(request, error)
    return render(
        request,
        "error.html",
        title=_heading(error),
        status=error.status,
        headers=error.headers,
        error=error,
        request_id=request_id,
    )


def render_unrouted(request: web.Request, error: RegistryError, request_id: str) -> web.StreamResponse:
    """The error of an address without a route: a page for browsers outside of the API, else JSON."""
    if _API.match(request.path) or "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
        return problems.render(request, error, request_id)
    if error.status == 404:
        error = NotFound("The address may be misspelt, or the page was removed.")
    return render_error(request, error, request_id)


_HEADINGS = {
    "not_found": "There is nothing at this address",
    "forbidden": "You may not do this",
    "quarantined": "This package is in quarantine",
    "rate_limited": "Too many requests",
    "too_many_failures": "Too many wrong attempts",
    "internal_error": "Something went wrong on our side",
}


def _heading(error: RegistryError) -> str:
    if error.status == 503:
        return "The registry can't answer this right now"
    return _HEADINGS.get(error.code) or error.title


def _page_before(request: web.Request) -> str:
    """The page that sent a form."""
    parts = urlsplit(request.headers.get(hdrs.REFERER, ""))
    if f"{parts.scheme}://{parts.netloc}" not in csrf.own_origins(request.app[SETTINGS]):
        return "/"
    return local_path(parts.path + (f"?{parts.query}" if parts.query else ""))


def _render_confirmation(request: web.Request, error: NotConfirmed) -> web.Response:
    carried = [(name, value) for name, value in error.form.fields.items() if name not in (PASSWORD, CODE)]
    return render(
        request,
        "confirm.html",
        title="Confirm that it is you",
        status=error.status,
        error=error,
        carried=carried,
        action=request.path_qs,
        form=Form(),
    )


def _response(
    request: web.Request, body: bytes, status: int, headers: Mapping[str, str], *, is_kept: bool
) -> web.Response:
    common = request.app[HEADERS]
    sent = {**common, hdrs.CACHE_CONTROL: NO_STORE, **headers}
    if is_kept:
        tag = tag_of(body)
        sent |= {hdrs.ETAG: f'W/"{tag}"', hdrs.CACHE_CONTROL: f"public, max-age={CACHE_SECONDS}"}
        if matches(request, tag):
            response = web.Response(status=304, headers=sent)
            add_vary(response.headers, hdrs.COOKIE)
            return response
    response = web.Response(body=body, status=status, content_type="text/html", charset="utf-8", headers=sent)
    add_vary(response.headers, hdrs.COOKIE)
    csrf.finish(request, response)
    if len(body) >= MIN_COMPRESSED:
        compress(request, response)
    return response


class _CsrfInput:
    """The hidden input of a form. It makes its token when a template shows it, so pages without forms set no cookie."""

    def __init__(self, make: "partial[str]") -> None:
        self._make = make

    def __html__(self) -> str:
        return Markup('<input type="hidden" name="{}" value="{}">').format(csrf.FIELD, self.token)

    @property
    def token(self) -> str:
        """The token alone, for a request of the script."""
        return self._make()
