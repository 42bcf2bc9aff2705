"""The pages of a package: its README, versions, dependencies and dependents, and the form to report it."""

from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from registry.accounts.requests import principal_of, visible_packages
from registry.downloads.keys import FIGURES
from registry.errors import InvalidInput, Quarantined, RegistryError
from registry.keys import DB
from registry.package_format import range_sets
from registry.packages.dependencies.dependents import Dependent, dependents_page
from registry.packages.dependencies.resolve import resolve
from registry.packages.overview import overview as use_case
from registry.packages.overview.overview import NewVersion, Overview
from registry.packages.requests import name_of
from registry.pages import charts, frame, paging
from registry.pages.forms import Form, read_form
from registry.pages.package.addresses import package_url, version_url
from registry.pages.package.head import about_of, head_of, package_page, render
from registry.pages.package.provenance import shown
from registry.pages.readme import READMES
from registry.pages.text import address
from registry.reports import report
from registry.reports.bodies import PACKAGE_REPORTS, ReportRequest
from registry.web.cursor import decode, encode
from registry.web.parsing import check
from registry.web.route import SIGNED_IN, query

NAME = "/packages/{name}"
VERSION = f"{NAME}/{{version}}"
DEPENDENTS = 50
MAX_FILTER = 128
DONE: Mapping[str, str] = {"reported": "Thank you. The admins of this registry have got your report."}


@package_page
async def show_package(request: web.Request) -> web.StreamResponse:
    """The page of a package or of one of its versions."""
    head = await head_of(request, "readme")
    about = head.about
    text = await use_case.readme(request.app[DB], about.version_id)
    weeks = (await request.app[FIGURES].weekly([about.name]))[about.name]
    return render(
        request,
        head,
        "package/package.html",
        title=about.name if about.is_latest else f"{about.name} {about.version}",
        description=about.description,
        readme=await request.app[READMES].of_version(
            {"name": about.name, "version": about.version, "checksum": about.checksum, "readme": text,
             "repository": about.repository}
        ),
        install=about.name if about.is_latest else f"{about.name}@{about.version}",
        week=weeks[-1],
        bars=charts.bars(weeks, label=f"Downloads of {about.name} a week"),
        repository_label=_repository_label(about.repository),
        provenance=shown(about.provenance),
        yanked_neighbour=_yanked_neighbour(about),
        done=DONE.get(request.query.get("done", ""), ""),
    )  # fmt: skip


def _repository_label(repository: str) -> str:
    """`owner/name` of a repository's address; "" if the path has another form."""
    path = urlsplit(address(repository)).path.strip("/").removesuffix(".git")
    return path if path.count("/") == 1 else ""


def _yanked_neighbour(about: Overview) -> NewVersion | None:
    """On the page of the latest version: a yanked version above it, or else the one just below it if that is yanked."""
    if not about.is_latest or about.yanked:
        return None
    numbers = [each.version for each in about.newest]
    at = numbers.index(about.version) if about.version in numbers else len(numbers)
    near = [*about.newest[:at], *about.newest[at + 1 : at + 2]]
    return next((each for each in near if each.yanked), None)


@package_page
async def show_versions(request: web.Request) -> web.StreamResponse:
    """All versions of a package, the highest first, in pages."""
    text = request.query.get("q", "").strip()
    number = paging.page_number(request)
    if len(text) > MAX_FILTER or "\0" in text:
        raise InvalidInput.field("q", f"must have at most {MAX_FILTER} characters")
    head = await head_of(request, "versions")
    rows, total = await use_case.versions_page(request.app[DB], head.about.package_id, number, text)
    before = (number - 1) * use_case.PAGE
    return render(
        request,
        head,
        "package/versions.html",
        title=f"Versions of {head.about.name}",
        description=f"All versions of {head.about.name}, with their dates, sizes and downloads",
        versions=rows,
        total=total,
        text=text,
        first=before + 1,
        previous=paging.page_url(request, number - 1) if number > 1 else "",
        next=paging.page_url(request, number + 1) if before + len(rows) < total else "",
    )


@package_page
async def show_dependencies(request: web.Request) -> web.StreamResponse:
    """What a version depends on, and what its ranges mean in this registry now."""
    head = await head_of(request, "dependencies")
    about = head.about
    return render(
        request,
        head,
        "package/dependencies.html",
        title=f"Dependencies of {about.name} {about.version}",
        description=f"The packages that {about.name} {about.version} depends on",
        dependencies=await resolve(request.app[DB], about.dependencies, visible_packages(request)),
        package_url=package_url,
        version_url=version_url,
    )


@package_page
async def lead_to_dependencies(request: web.Request) -> web.StreamResponse:
    """Leads to the dependencies of the latest version."""
    about = await about_of(request)
    return frame.see_other(f"{version_url(about.name, about.version)}/dependencies")


@package_page
async def show_dependents(request: web.Request) -> web.StreamResponse:
    """The packages that depend on a package, and a form for a range of its versions."""
    text, cursor = request.query.get("range", "").strip(), request.query.get("cursor")
    head = await head_of(request, "dependents")
    found: list[Dependent] = []
    wanted = following = None
    try:
        wanted = range_sets.parse(text) if text else None
        is_range = True
    except ValueError:
        is_range = False
    if is_range:
        found, following = await dependents_page(
            request.app[DB], head.about.name, wanted, DEPENDENTS, _after(cursor), visible_packages(request)
        )
    weeks = await request.app[FIGURES].weekly([each["name"] for each in found])
    return render(
        request,
        head,
        "package/dependents.html",
        title=f"Dependents of {head.about.name}",
        description=f"The packages that depend on {head.about.name}",
        status=200 if is_range else 400,
        range=text,
        is_range=is_range,
        dependents=found,
        weeks=weeks,
        is_first=cursor is None,
        next=_dependents_url(request, text, following) if following else "",
    )


def _after(cursor: str | None) -> str:
    """The name after which a page begins. Raises InvalidInput."""
    if cursor is None:
        return ""
    try:
        return str(decode(cursor, "dependents", (str,))[0])
    except ValueError as wrong:
        raise InvalidInput.field("cursor", str(wrong)) from None


def _dependents_url(request: web.Request, text: str, following: str) -> str:
    parameters = [("range", text)] if text else []
    return f"{request.path}?{urlencode([*parameters, ('cursor', encode('dependents', (following,)))])}"


@package_page
async def show_report_form(request: web.Request) -> web.StreamResponse:
    """The form to report a package to the admins."""
    return _report_form(request, await _reported(request), Form())


@package_page
async def send_report(request: web.Request) -> web.StreamResponse:
    """Reports a package to the admins."""
    form, name = await read_form(request), await _reported(request)
    try:
        if not form["text"].strip():
            raise InvalidInput.field("text", "must not be blank")
        body = check(ReportRequest, {"kind": form["kind"], "text": form["text"].strip()})
        await report.report_package(request.app[DB], principal_of(request), name, body.kind, body.text)
    except RegistryError as error:
        if error.status not in (400, 403):
            raise
        return _report_form(request, name, form.refused(error), status=error.status)
    return frame.see_other(f"{package_url(name)}/report", "reported")


async def _reported(request: web.Request) -> str:
    """The name of the package to report, which may be in quarantine."""
    try:
        return (await about_of(request)).name
    except Quarantined:
        return name_of(request)


def _report_form(request: web.Request, name: str, form: Form, status: int = 200) -> web.Response:
    return frame.render(
        request,
        "package/report.html",
        title=f"Report {name}",
        status=status,
        name=name,
        package_url=package_url(name),
        form=form,
        kinds=KINDS,
        done=DONE.get(request.query.get("done", ""), ""),
    )


KINDS = (
    ("malware", "Malware: it harms whoever installs or runs it"),
    ("spam", "Spam: it has no use, or only advertises"),
    ("other", "Something else"),
)
_TEXT = {"type": "string"}

ROUTES = (
    frame.page("GET", NAME, show_package, "A package"),
    frame.page("GET", f"{NAME}/versions", show_versions, "The versions of a package",
               parameters=(paging.NUMBER, query("q", _TEXT, "A part of the version numbers"))),
    frame.page("GET", f"{NAME}/dependencies", lead_to_dependencies, "The dependencies of the latest version"),
    frame.page("GET", f"{NAME}/dependents", show_dependents, "The packages that depend on a package",
               parameters=(query("range", _TEXT, "A version range"), query("cursor", _TEXT, "Where the page begins"))),
    frame.page("GET", f"{NAME}/report", show_report_form, "A form to report a package", SIGNED_IN),
    frame.page("POST", f"{NAME}/report", send_report, "Report a package", SIGNED_IN, PACKAGE_REPORTS),
    frame.page("GET", VERSION, show_package, "A version of a package"),
    frame.page("GET", f"{VERSION}/dependencies", show_dependencies, "The dependencies of a version"),
)  # fmt: skip
