"""Reads package names and versions from the address of a request, for all handlers of routes with a package."""

from functools import wraps

from aiohttp import web

from registry.accounts.requests import visible_packages
from registry.package_format import names
from registry.packages import read
from registry.packages.cached import PackageCache
from registry.web.route import Handler

PACKAGES = "/api/v1/packages"
PACKAGE = f"{PACKAGES}/{{name}}"
VERSION = f"{PACKAGE}/{{version}}"

CACHE = web.AppKey("cache", PackageCache)


def name_of(request: web.Request) -> str:
    """The package name in the address, in lower case.

    Raises NotFound when it can't be a package name, or when the client has no access to the package.
    """
    return visible_name(request, request.match_info["name"])


def visible_name(request: web.Request, given: str) -> str:
    """The package name `given`, in lower case.

    Raises NotFound when it can't be a package name, or when the client has no access to the package.
    """
    name = names.fold_name(given)
    if name is None:
        raise read.no_package(given.encode("ascii", "replace").decode())
    visible = visible_packages(request)
    if visible is not None and names.similarity_key(name) not in map(names.similarity_key, visible):
        raise read.no_package(name)
    return name


def version_of(request: web.Request) -> str:
    """The version in the address, as the client wrote it, with `?` for characters outside ASCII."""
    return request.match_info["version"].encode("ascii", "replace").decode()


def redirect_look_alikes(handler: Handler) -> Handler:
    """A decorator that redirects from a look-alike name to the existing package: 301 for reads, 308 for writes."""

    @wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except read.OtherSpelling as known:
            path = request.path.replace(f"/packages/{request.match_info['name']}", f"/packages/{known.name}", 1)
            address = str(request.rel_url.with_path(path, keep_query=True))
            return web.Response(status=301 if request.method in ("GET", "HEAD") else 308, headers={"Location": address})

    return handle
