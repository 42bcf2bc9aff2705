"""token: API tokens for machines."""

import argparse

from registry.client.address import api_path
from registry.client.client import Client
from registry.client.spec import parse_name


def create(client: Client, options: argparse.Namespace) -> None:
    body: dict[str, object] = {"name": options.name, "scopes": options.scope}
    if options.package:
        body["packages"] = [parse_name(name) for name in options.package]
    if options.expires_in is not None:
        body["expires_in_days"] = options.expires_in
    client.require_token()
    data = client.api.call("POST", "/auth/tokens", body)
    client.out.note(f"Token {data['id']}. It is shown only this once.")
    client.out.result(data, data["token"])


def list_tokens(client: Client, _: argparse.Namespace) -> None:
    client.require_token()
    data = client.api.get("/auth/tokens")
    rows = [
        (
            each["id"],
            each["name"],
            ",".join(each["scopes"]),
            each["expires_at"] or "never",
            each["last_used_at"] or "never",
            "all" if each["packages"] is None else ",".join(each["packages"]),
        )
        for each in data["tokens"]
    ]
    headings = ("ID", "NAME", "SCOPES", "EXPIRES", "LAST USED", "PACKAGES")
    client.out.result(data, client.out.table(headings, rows) if rows else "You have no API tokens.")


def delete(client: Client, options: argparse.Namespace) -> None:
    client.require_token()
    client.api.call("DELETE", api_path("auth", "tokens", options.id))
    client.out.result({"deleted": options.id}, f"Token {options.id} has ended.")
