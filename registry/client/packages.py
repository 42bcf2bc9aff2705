"""search, info, yank, unyank and deprecate."""

import argparse
from typing import Any

from registry.client.address import api_path
from registry.client.client import Client
from registry.client.failures import WrongUsage
from registry.client.output import deprecation, size
from registry.client.spec import parse, parse_name, parse_version

LISTED_VERSIONS = 10


def search(client: Client, options: argparse.Namespace) -> None:
    page = client.read(
        "/search",
        q=" ".join(options.query),
        limit=options.limit,
        sort=options.sort,
        prerelease=None if options.prerelease is None else str(options.prerelease).lower(),
    )
    found = page["results"]
    lines = ["Nothing was found."]
    if found:
        rows = [(each["name"], each["version"], _marked(each)) for each in found]
        lines = [client.out.table(("NAME", "VERSION", "DESCRIPTION"), rows)]
    if page.get("total", 0) > len(found):
        lines.append(f"{len(found)} of {page['total']} packages. --limit shows more.")
    if page.get("suggestion"):
        lines.append(f"Did you mean {page['suggestion']}?")
    client.out.result(page, "\n".join(lines))


def _marked(found: dict[str, Any]) -> str:
    return f"[deprecated] {found['description']}" if found.get("deprecated") else str(found["description"])


def info(client: Client, options: argparse.Namespace) -> None:
    spec = parse(options.package)
    data = client.read(api_path("packages", spec.name, *([spec.version] if spec.version else [])))
    rows = _version_rows(data) if spec.version else _package_rows(data)
    text = client.out.fields([(label, str(value)) for label, value in rows if value not in ("", None)])
    client.out.result(data, f"{data['name']} {data['version']}\n{text}")


def _package_rows(data: dict[str, Any]) -> list[tuple[str, object]]:
    versions = data["versions"]
    shown = [f"{each['version']}{' (yanked)' if each['yanked'] else ''}" for each in versions[:LISTED_VERSIONS]]
    more = f" and {len(versions) - LISTED_VERSIONS} more" if len(versions) > LISTED_VERSIONS else ""
    return [
        *_common_rows(data),
        ("owners", ", ".join(data["owners"])),
        ("versions", ", ".join(shown) + more),
        ("downloads", f"{data['total_downloads']:,}"),
        ("updated", data["updated_at"]),
    ]


def _version_rows(data: dict[str, Any]) -> list[tuple[str, object]]:
    return [
        *_common_rows(data),
        ("yanked", (data["yank_reason"] or "yes") if data["yanked"] else ""),
        ("size", size(data["tarball_size"])),
        ("sha256", data["checksum"]),
        ("downloads", f"{data['downloads']:,}"),
        ("published", data["published_at"]),
        ("published by", _provenance(data.get("provenance"))),
    ]


def _provenance(provenance: dict[str, Any] | None) -> str:
    """The CI job that published a version; "" when it was published otherwise."""
    if not provenance:
        return ""
    parts = [
        str(provenance[name]) for name in ("repository", "workflow", "ref", "commit", "run_url") if provenance[name]
    ]
    return f"{provenance['kind']}: {', '.join(parts)}"


def _common_rows(data: dict[str, Any]) -> list[tuple[str, object]]:
    dependencies = ", ".join(f"{name} {wanted}" for name, wanted in data["dependencies"].items())
    return [
        ("description", data["description"]),
        ("deprecated", deprecation(data)),
        *((name, data[name]) for name in ("author", "license", "homepage", "repository")),
        ("keywords", ", ".join(data["keywords"])),
        ("dependencies", dependencies),
    ]


def yank(client: Client, options: argparse.Namespace) -> None:
    spec = parse_version(options.package)
    client.require_token()
    body = {"yanked": options.yanked, "reason": options.reason or ""}
    data = client.api.call("PATCH", api_path("packages", spec.name, spec.version), body)
    done = "yanked: new installs skip it" if options.yanked else "no longer yanked"
    client.out.result(data, f"{data['name']} {data['version']} is {done}.")


def deprecate(client: Client, options: argparse.Namespace) -> None:
    name = parse_name(options.package)
    if options.undo == bool(options.message):
        raise WrongUsage("Use either --message TEXT or --undo.")
    if options.undo and options.successor:
        raise WrongUsage("--successor goes with --message.")
    client.require_token()
    # Every release of the registry reads the text as `deprecated`; a successor needs the longer form.
    body: dict[str, Any] = {"deprecated": options.message}
    if options.successor:
        body = {"deprecated": True, "message": options.message, "successor": options.successor}
    data = client.api.call("PATCH", api_path("packages", name), body)
    client.out.result(data, f"{data['name']} is {'no longer ' if options.undo else ''}deprecated.")
