"""HTTP handlers of packages. Each parses the request, calls a use case and renders its result."""

from typing import Any, NamedTuple

from aiohttp import web
from typing_extensions import TypedDict

from registry.accounts.requests import principal_of, visible_packages
from registry.errors import (
    ChecksumMismatch,
    Conflict,
    FieldError,
    IdempotencyKeyReused,
    InvalidArchive,
    InvalidInput,
    InvalidManifest,
    NameClosed,
    NameReserved,
    NameTooSimilar,
    Quarantined,
    StorageUnavailable,
    UnsupportedMediaType,
    VersionBurned,
    VersionExists,
)
from registry.keys import DB, STORAGE
from registry.package_format import fields, manifest, names, range_sets, versions
from registry.packages import manage, publish, read
from registry.packages.bodies import DELETES, PackageChange, Yank, message_of, reason_of
from registry.packages.dependencies import dependents
from registry.packages.inspection import InspectionPool
from registry.packages.listing import page as listing
from registry.packages.listing.store import SORTS
from registry.packages.requests import CACHE, PACKAGE, PACKAGES, VERSION, name_of, redirect_look_alikes, version_of
from registry.packages.rights import Action, check_credentials
from registry.packages.upload import MAX_IDEMPOTENCY_KEY, Receiver, continue_later
from registry.web import paging
from registry.web.cursor import decode, encode
from registry.web.parsing import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    PAGE_PARAMETERS,
    flag_of,
    parse_number,
    parse_page,
    read_body,
)
from registry.web.responses import json_response, metadata_response, render, rendered_response
from registry.web.route import READS, SIGNED_IN, Limit, Route, group, header, query

RECEIVER = web.AppKey("receiver", Receiver)
INSPECTIONS = web.AppKey("inspections", InspectionPool)


class Page(NamedTuple):
    """The rendered JSON of a package, and its ETag."""

    body: bytes
    tag: str
    package_id: int


async def publish_version(request: web.Request) -> web.StreamResponse:
    """Publishes a version of a package; the first one also creates the package. The tarball comes as base64 in JSON,
    or as a part of `multipart/form-data`. A published version never changes. `seq` of the answer can be given to a
    search as `min_seq`.
    """
    check_credentials(principal_of(request), Action.PUBLISH)
    receiver = request.app[RECEIVER]
    if request.content_type == "multipart/form-data":
        receiving = receiver.multipart(request)
    elif request.content_type == "application/json":
        receiving = receiver.json(request)
    else:
        raise UnsupportedMediaType("Send application/json or multipart/form-data, or PUT the tarball itself.")
    async with receiving as upload:
        return await _publish(request, upload)


async def publish_tarball(request: web.Request) -> web.StreamResponse:
    """Publishes a version from the bytes of its tarball, the fastest way. `synapse.json` in the tarball has the
    metadata; its name and version must be those of the address.
    """
    name, version = request.match_info["name"], request.match_info["version"]
    problems = manifest.request_problems({"name": name, "version": version})
    # A dry run continues, so that it can report problems of the tarball as well.
    if problems and not flag_of(request, "dry_run"):
        raise InvalidInput.of(problems)
    check_credentials(principal_of(request), Action.PUBLISH, name)
    async with request.app[RECEIVER].raw(request, name, version) as upload:
        return await _publish(request, upload)


async def _publish(request: web.Request, upload: publish.Upload) -> web.StreamResponse:
    answer = await publish.publish(
        request.app[DB], request.app[STORAGE], request.app[INSPECTIONS], principal_of(request), upload
    )
    if upload.dry_run:
        return json_response({**answer, "dry_run": True})
    return json_response(answer, status=201, headers={"Location": answer["package"]["url"]})


@redirect_look_alikes
async def get_package(request: web.Request) -> web.StreamResponse:
    """The package, its latest version and all other versions, newest first. A look-alike spelling is redirected to the
    package.
    """
    name = name_of(request)

    async def read_page() -> Page:
        info = await read.package_info(request.app[DB], name)
        return Page(*render(info), package_id=info["id"])

    page = await request.app[CACHE].get(("page", name), read_page, counts=True)
    return rendered_response(request, page.body, page.tag)


@redirect_look_alikes
async def get_version(request: web.Request) -> web.StreamResponse:
    """One version with its README and its manifest. `latest` is the highest stable version that is not yanked."""
    version = version_of(request)
    info = await read.version_info(request.app[DB], name_of(request), version)
    if version == info["version"]:
        return metadata_response(request, info)
    location = read.version_url(info["name"], info["version"])
    return metadata_response(request, info, headers={"Content-Location": location})


@redirect_look_alikes
async def list_versions(request: web.Request) -> web.StreamResponse:
    """The numbers of all versions, ascending by the precedence of SemVer."""
    return metadata_response(request, await read.version_names(request.app[DB], name_of(request)))


async def list_packages(request: web.Request) -> web.StreamResponse:
    """All packages, page by page. Beyond 10,000 entries, pages are reached by `cursor` only."""
    errors: list[FieldError] = []
    limit, offset = parse_page(request.query, errors)
    sort, cursor, after = request.query.get("sort", "name"), request.query.get("cursor"), None
    if sort not in SORTS:
        errors.append({"field": "sort", "message": f"must be one of {', '.join(SORTS)}"})
    elif cursor is not None:
        try:
            after = listing.decode_cursor(cursor, sort)
        except ValueError as wrong:
            errors.append({"field": "cursor", "message": str(wrong)})
    if errors:
        raise InvalidInput.of(errors)
    page = await listing.package_page(request.app[DB], sort, limit, offset, after, visible_packages(request))
    return metadata_response(request, page)


@redirect_look_alikes
async def delete_version(request: web.Request) -> web.StreamResponse:
    """Deletes a version for good; its number is never used again. Owners and admins may do this. An API token needs
    the scope `yank`. The package ends with its last version.
    """
    who = principal_of(request)
    await manage.delete_version(request.app[DB], who, name_of(request), version_of(request))
    return web.Response(status=204)


@redirect_look_alikes
async def restore_version(request: web.Request) -> web.StreamResponse:
    """Restores a deleted version while its tarball is kept. Only admins may do this."""
    name, version = name_of(request), version_of(request)
    await manage.restore_version(request.app[DB], principal_of(request), name, version)
    return json_response(await read.version_info(request.app[DB], name, version, hidden=True))


@redirect_look_alikes
async def yank_version(request: web.Request) -> web.StreamResponse:
    """Yanks a version, or ends the yank. A yanked version stays available, but `latest` passes over it. An API token
    needs the scope `yank`.
    """
    name, version, who = name_of(request), version_of(request), principal_of(request)
    body = await read_body(request, Yank)
    await manage.yank_version(request.app[DB], who, name, version, body.yanked, body.reason)
    return json_response(await read.version_info(request.app[DB], name, version, hidden=True))


@redirect_look_alikes
async def update_package(request: web.Request) -> web.StreamResponse:
    """Deprecates a package, ends a deprecation, or puts the package in quarantine and releases it. Only admins may do
    the last two. An API token needs the scope `yank`.
    """
    name, who = name_of(request), principal_of(request)
    body = await read_body(request, PackageChange)
    given = body.model_fields_set & {"deprecated", "quarantined"}
    if len(given) != 1:
        raise InvalidInput.field("deprecated", "or `quarantined` is required, but not both")
    if "deprecated" in given:
        await manage.deprecate_package(request.app[DB], who, name, message_of(body), body.successor or None)
    else:
        await manage.quarantine_package(request.app[DB], who, name, reason_of(body))
    return json_response(await read.package_info(request.app[DB], name, hidden=True))


class DependentsPage(TypedDict):
    """`next_cursor` is None on the last page."""

    dependents: list[dependents.Dependent]
    next_cursor: str | None
    limit: int


@redirect_look_alikes
async def list_dependents(request: web.Request) -> web.StreamResponse:
    """The packages whose latest version depends on this package, by name. With `range`, only those whose own range has
    a version in common with it, published or not.
    """
    name, given, errors = name_of(request), request.query, list[FieldError]()
    limit = min(parse_number(given, "limit", errors, DEFAULT_LIMIT, low=1), MAX_LIMIT)
    after, wanted = "", None
    try:
        wanted = range_sets.parse(given["range"]) if "range" in given else None
    except ValueError as wrong:
        errors.append({"field": "range", "message": str(wrong)})
    try:
        after = str(decode(given["cursor"], "dependents", (str,))[0]) if "cursor" in given else ""
    except ValueError as wrong:
        errors.append({"field": "cursor", "message": str(wrong)})
    if errors:
        raise InvalidInput.of(errors)
    found, following = await dependents.dependents_page(
        request.app[DB], name, wanted, limit, after, visible_packages(request)
    )
    next_cursor = None if following is None else encode("dependents", (following,))
    return metadata_response(request, {"dependents": found, "next_cursor": next_cursor, "limit": limit})


_TEXT = {"type": "string"}
_TARBALL = {"type": "string", "format": "binary"}
METADATA_SCHEMA: dict[str, Any] = {
    "title": "Metadata",
    "type": "object",
    "required": list(manifest.REQUIRED),
    "properties": {
        "name": {"type": "string", "pattern": names.PATTERN, "maxLength": names.MAX_NAME},
        "version": {"type": "string", "maxLength": versions.MAX_VERSION, "description": "SemVer 2.0.0"},
        "description": {"type": "string", "minLength": 1, "maxLength": fields.MAX_DESCRIPTION},
        "author": {"type": ["string", "object", "null"]},
        "license": {"type": ["string", "object", "null"]},
        "homepage": {"type": ["string", "null"], "maxLength": fields.MAX_URL},
        "repository": {"type": ["string", "object", "null"]},
        "keywords": {
            "type": ["array", "null"], "maxItems": fields.MAX_KEYWORDS,
            "items": {"type": "string", "minLength": 1, "maxLength": fields.MAX_KEYWORD},
        },
        "dependencies": {
            "type": ["object", "null"], "maxProperties": fields.MAX_DEPENDENCIES, "additionalProperties": _TEXT,
            "description": "Maps package names to version ranges in npm's syntax",
        },
        "readme": {"type": ["string", "null"]},
    },
}  # fmt: skip
_JSON_SCHEMA = {
    **METADATA_SCHEMA,
    "title": "PublishRequest",
    "required": [*manifest.REQUIRED, "tarball"],
    "properties": {
        **METADATA_SCHEMA["properties"],
        "tarball": {"type": "string", "contentEncoding": "base64", "contentMediaType": "application/gzip"},
    },
}
_MULTIPART_SCHEMA = {
    "title": "PublishForm",
    "type": "object",
    "required": ["metadata", "tarball"],
    "properties": {"metadata": METADATA_SCHEMA, "tarball": _TARBALL},
}
_PUBLISH_PARAMETERS = (
    query("dry_run", {"type": "boolean", "default": False}, "Check everything, but store nothing"),
    header("X-Checksum-SHA256", {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}, "Must match the tarball"),
    header("Idempotency-Key",
           {"type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY, "pattern": "^[!-~]([ -~]*[!-~])?$"},
           "A repeated request with the same key within a day gets the first answer"),
)  # fmt: skip

_PUBLISH_EXAMPLE = {
    "name": "hello-world", "version": "1.0.0", "description": "Says hello", "license": "MIT", "keywords": ["greeting"],
    "dependencies": {"hello-core": "^1.2"}, "tarball": "H4sIAAAAAAAC/wMAAAAAAAAAAAA=",
}  # fmt: skip
_PUBLISH_ERRORS = (
    InvalidArchive, InvalidManifest, ChecksumMismatch, NameReserved, NameClosed, Quarantined, VersionExists,
    VersionBurned, NameTooSimilar, IdempotencyKeyReused, StorageUnavailable,
)  # fmt: skip

PUBLISHES = Limit("publish", "50/hour")

ROUTES = group(
    "Packages",
    Route("GET", PACKAGE, get_package, "A package and its versions", limit=READS,
          answers={200: read.PackageInfo, 301: None, 304: None}, errors=(Quarantined,)),
    Route("POST", PACKAGES, publish_version, "Publish a version", SIGNED_IN, PUBLISHES, _PUBLISH_PARAMETERS,
          {"application/json": _JSON_SCHEMA, "multipart/form-data": _MULTIPART_SCHEMA},
          {201: publish.Published, 200: publish.Published}, _PUBLISH_ERRORS, expect=continue_later, publishes=True,
          example=_PUBLISH_EXAMPLE),
    Route("PUT", VERSION, publish_tarball, "Publish a version from its tarball", SIGNED_IN, PUBLISHES,
          _PUBLISH_PARAMETERS, {"application/gzip": _TARBALL, "application/octet-stream": _TARBALL},
          {201: publish.Published, 200: publish.Published}, _PUBLISH_ERRORS, expect=continue_later, publishes=True),
    Route("GET", PACKAGES, list_packages, "List packages", limit=READS, parameters=(
        *PAGE_PARAMETERS, query("sort", {"type": "string", "enum": list(SORTS), "default": "name"}, "Order"),
        query("cursor", _TEXT, "`next_cursor` of the previous page"),
    ), answers={200: listing.PackagePage, 304: None}),
    Route("PATCH", PACKAGE, update_package, "Deprecate a package, or put it in quarantine (admins)", SIGNED_IN,
          body={"application/json": PackageChange}, answers={200: read.PackageInfo, 308: None}, errors=(Quarantined,),
          example={"deprecated": True, "message": "Use hello-planet.", "successor": "hello-planet"}),
    Route("GET", f"{PACKAGE}/versions", list_versions, "All version numbers, ascending", limit=READS,
          answers={200: read.VersionNames, 301: None, 304: None}, errors=(Quarantined,)),
    Route("GET", f"{PACKAGE}/dependents", list_dependents, "The packages that depend on a package", limit=READS,
          parameters=(query("range", _TEXT, "A version range in npm's syntax"), *paging.PARAMETERS),
          answers={200: DependentsPage, 301: None, 304: None}, errors=(Quarantined,)),
    Route("GET", VERSION, get_version, "One version, or the latest one with `latest`", limit=READS,
          answers={200: read.VersionInfo, 301: None, 304: None}, errors=(Quarantined,)),
    Route("PATCH", VERSION, yank_version, "Yank a version, or undo the yank", SIGNED_IN,
          body={"application/json": Yank}, answers={200: read.VersionInfo, 308: None}, errors=(Quarantined,),
          example={"yanked": True, "reason": "It deletes files."}),
    Route("DELETE", VERSION, delete_version, "Delete a version", SIGNED_IN, DELETES,
          answers={204: None, 308: None}, errors=(Quarantined,)),
    Route("POST", f"{VERSION}/restore", restore_version, "Restore a deleted version (admins)", SIGNED_IN,
          answers={200: read.VersionInfo, 308: None}, errors=(Conflict,)),
)  # fmt: skip
