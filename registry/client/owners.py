"""owners: roles, invitations and transfers."""

import argparse
from typing import Any

from registry.client.address import api_path
from registry.client.client import Client
from registry.client.spec import parse_name, parse_owner

PAGE = 100


def list_owners(client: Client, options: argparse.Namespace) -> None:
    name = parse_name(options.package)
    owners = _all_pages(client, api_path("packages", name, "owners"), "owners")
    rows = [(each["username"], each["role"], each["since"]) for each in owners]
    client.out.result({"owners": owners}, client.out.table(("USER", "ROLE", "SINCE"), rows))


def invite(client: Client, options: argparse.Namespace) -> None:
    name = parse_name(options.package)
    client.require_token()
    who = "email" if "@" in options.user else "username"
    body = {who: options.user, "role": options.role}
    data = client.api.call("POST", api_path("packages", name, "invitations"), body)
    client.out.result(data, f"{options.user} is invited to be {options.role} of {name}. {_validity(data)}")


def withdraw(client: Client, options: argparse.Namespace) -> None:
    name = parse_name(options.package)
    client.require_token()
    client.api.call("DELETE", api_path("packages", name, "invitations", options.invitation))
    client.out.result({"withdrawn": options.invitation}, f"Invitation {options.invitation} is withdrawn.")


def remove(client: Client, options: argparse.Namespace) -> None:
    name = parse_name(options.package)
    client.require_token()
    client.api.call("DELETE", api_path("packages", name, "owners", options.user))
    client.out.result({"removed": options.user}, f"{options.user} has no role in {name} any more.")


def change_role(client: Client, options: argparse.Namespace) -> None:
    name = parse_name(options.package)
    client.require_token()
    path = api_path("packages", name, "owners", options.user)
    data = client.api.call("PATCH", path, {"role": options.role})
    client.out.result(data, f"{data['username']} is now {data['role']} of {name}.")


def transfer(client: Client, options: argparse.Namespace) -> None:
    name = parse_name(options.package)
    client.require_token()
    data = client.api.call("POST", api_path("packages", name, "transfer"), {"username": options.user})
    text = f"{options.user} is invited to become the only owner of {name}. {_validity(data)}"
    client.out.result(data, text)


def set_owners(client: Client, options: argparse.Namespace) -> None:
    name = parse_name(options.package)
    owners = [parse_owner(text) for text in options.users]
    client.require_token()
    body = {"owners": owners, "reason": options.reason}
    data = client.api.call("PUT", api_path("packages", name, "owners"), body)
    listed = ", ".join(f"{each['username']} ({each['role']})" for each in data["owners"])
    client.out.result(data, f"{name} now belongs to {listed}.")


def invitations(client: Client, options: argparse.Namespace) -> None:
    """The open invitations of the user, or those to a package."""
    name = parse_name(options.package) if options.package else ""
    client.require_token()
    path = api_path("packages", name, "invitations") if name else "/auth/invitations"
    found = _all_pages(client, path, "invitations")
    rows = [
        (
            each["id"],
            each["package"],
            each["username"] or "(by e-mail)",
            "only owner" if each["transfer"] else each["role"],
            each["inviter"],
            each["expires_at"],
        )
        for each in found
    ]
    headings = ("ID", "PACKAGE", "INVITED", "ROLE", "INVITED BY", "UNTIL")
    none = f"{name} has no open invitations." if name else "You have no invitations."
    client.out.result({"invitations": found}, client.out.table(headings, rows) if rows else none)


def answer(client: Client, options: argparse.Namespace) -> None:
    """Accepts or declines an invitation."""
    client.require_token()
    data = client.api.call("POST", api_path("auth", "invitations", options.invitation, options.answer))
    if options.answer == "accept":
        client.out.result(data, f"You are now {data['role']} of {data['package']}.")
    else:
        client.out.result({"declined": options.invitation}, f"Invitation {options.invitation} is declined.")


def _validity(invitation: dict[str, Any]) -> str:
    return f"Invitation {invitation['id']} is valid until {invitation['expires_at']}."


def _all_pages(client: Client, path: str, member: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = client.read(path, limit=PAGE, cursor=cursor)
        found += page[member]
        cursor = page.get("next_cursor")
        if not cursor or not page[member]:
            return found
