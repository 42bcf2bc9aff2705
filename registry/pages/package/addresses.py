"""The addresses of a package's pages."""

from urllib.parse import quote


def package_url(name: str) -> str:
    return f"/packages/{quote(name)}"


def version_url(name: str, version: str) -> str:
    return f"{package_url(name)}/{quote(version)}"
