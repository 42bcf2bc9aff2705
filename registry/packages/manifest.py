"""A version's metadata: the fields of the request, and of synapse.json where the request has none."""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from registry.errors import FieldError, InvalidInput, InvalidManifest
from registry.packages import fields
from registry.packages.versions import Version

MAX_MANIFEST = 1024 * 1024
MAX_README = 512 * 1024
MAX_ERRORS = 200

REQUIRED = ("name", "version", "description")
FIELDS = (*REQUIRED, "author", "license", "homepage", "repository", "keywords", "dependencies", "readme")

# Digits of the largest double, and a sign.
_LONGEST_WHOLE_NUMBER = 310
_LONG_NUMBER = re.compile("[0-9]{20}")
_NO_VERSION = Version("", "", "", "", "", "")

T = TypeVar("T")


@dataclass(frozen=True)
class Manifest:
    """A parsed synapse.json.

    `text` is its JSON as it was published, without a byte order mark. Every JSON parser reads it, once `merge` has
    accepted its members.
    """

    members: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Metadata:
    """A version's valid fields. An optional field that was left out is empty; `manifest` is the manifest's text."""

    name: str
    version: Version
    description: str
    author: str
    license: str
    homepage: str
    repository: str
    keywords: tuple[str, ...]
    dependencies: dict[str, str]
    readme: str
    manifest: str


def parse_manifest(data: bytes) -> Manifest:
    """Parse synapse.json, which has at most MAX_MANIFEST bytes. Raises InvalidManifest unless it is a JSON object."""
    repeated = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        found = dict(pairs)
        repeated = repeated or len(found) < len(pairs)
        return found

    try:
        text = data.decode("utf-8-sig")
        manifest = json.loads(text, object_pairs_hook=members, parse_int=_whole_number, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidManifest("synapse.json is not UTF-8") from error
    except RecursionError as error:
        raise InvalidManifest(f"synapse.json is nested deeper than {fields.MAX_DEPTH} levels") from error
    except ValueError as error:
        raise InvalidManifest(f"synapse.json is not JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise InvalidManifest("synapse.json must hold a JSON object")
    # Parsers disagree on which of two equal keys counts, so readers get the one that was checked.
    return Manifest(manifest, json.dumps(manifest, ensure_ascii=False) if repeated else text)


def manifest_text_of_jsonb(stored: str) -> str:
    """The text of a manifest that an earlier release kept as JSONB; `stored` is PostgreSQL's text of it.

    PostgreSQL writes 1e-300 out in 300 digits. Those releases took no whole number beyond 64 bits, so each longer
    number was a double when it was published. Parsing may take long: call it in a thread.
    """
    if not _LONG_NUMBER.search(stored):
        return stored
    return json.dumps(json.loads(stored, parse_int=_number_of_jsonb), ensure_ascii=False)


def merge(
    request: Mapping[str, Any], manifest: Manifest, *, readme: str = "", required: Collection[str] = ()
) -> Metadata:
    """Merge the request's fields (null counts as left out) over the manifest's.

    `readme` is the archive's README, for a request without one. `required` names the fields the request must have.
    Collects up to MAX_ERRORS problems. Raises InvalidManifest when all are in synapse.json, else InvalidInput.
    Parsing 1,000 of the slowest ranges takes seconds: call it in a thread.
    """
    sources = _Sources(request, manifest.members, required)
    metadata = _read(sources, readme, manifest.text)
    sources.raise_problems()
    return metadata


def request_problems(request: Mapping[str, Any], required: Collection[str] = ()) -> list[FieldError]:
    """The problems of the request's own fields, without the archive. Call it in a thread, like `merge`."""
    sources = _Sources(request, {}, required)
    _read(sources, "", "")
    return sources.request_errors[:MAX_ERRORS]


def _read(sources: "_Sources", readme: str, manifest: str) -> Metadata:
    return Metadata(
        name=sources.take("name", fields.read_name, ""),
        version=sources.take("version", fields.read_version, _NO_VERSION),
        description=sources.take("description", fields.read_description, ""),
        author=sources.take("author", fields.read_author, ""),
        license=sources.take("license", fields.read_license, ""),
        homepage=sources.take("homepage", fields.read_homepage, ""),
        repository=sources.take("repository", fields.read_repository, ""),
        keywords=sources.take("keywords", fields.read_keywords, ()),
        dependencies=sources.take("dependencies", fields.read_dependencies, {}),
        readme=clip_readme(sources.take_requested("readme", fields.read_text, readme)),
        manifest=manifest,
    )


def clip_readme(text: str) -> str:
    """`text` without NULs, cut to at most MAX_README bytes of UTF-8 between two characters."""
    return text.replace("\x00", "").encode()[:MAX_README].decode(errors="ignore")


class _Sources:
    """Takes fields from the request and the manifest, and collects the problems of each."""

    def __init__(self, request: Mapping[str, Any], manifest: Mapping[str, Any], required: Collection[str]) -> None:
        self._request = {field: request[field] for field in FIELDS if request.get(field) is not None}
        self._manifest = manifest
        self.request_errors = [fields.field_error(f, "is required") for f in required if f not in self._request]
        self.request_errors += _storage_problems(self._request)
        self._manifest_errors = [_in_manifest(error) for error in _storage_problems(manifest)]
        self._skip_request = {error["field"] for error in self.request_errors}
        self._skip_manifest = {error["field"] for error in self._manifest_errors}

    def take(self, field: str, read: Callable[[str, Any], T], empty: T) -> T:
        """The value that `read` returns for the field: of the request if it has the field, else of the manifest.

        `empty` when the field is missing or invalid.
        """
        own = self._take_manifest(field, read, empty) if field in REQUIRED or field not in self._request else empty
        if field not in self._request:
            return own
        requested = self.take_requested(field, read, empty)
        if field in ("name", "version") and requested != empty and own not in (empty, requested):
            message = f"is {str(own)!r} in synapse.json but {str(requested)!r} in the request"
            self._manifest_errors.append(fields.field_error(field, message))
        return requested

    def take_requested(self, field: str, read: Callable[[str, Any], T], empty: T) -> T:
        if field not in self._request or field in self._skip_request:
            return empty
        try:
            return read(field, self._request[field])
        except InvalidInput as problem:
            self.request_errors.extend(problem.errors)
            return empty

    def _take_manifest(self, field: str, read: Callable[[str, Any], T], empty: T) -> T:
        if field in self._skip_manifest:
            return empty
        if self._manifest.get(field) is None:
            if field in REQUIRED:
                self._manifest_errors.append(fields.field_error(field, "is missing from synapse.json"))
            return empty
        try:
            return read(field, self._manifest[field])
        except InvalidInput as problem:
            self._manifest_errors.extend(_in_manifest(error) for error in problem.errors)
            return empty

    def raise_problems(self) -> None:
        if self.request_errors:
            raise InvalidInput.of((self.request_errors + self._manifest_errors)[:MAX_ERRORS])
        if self._manifest_errors:
            raise InvalidManifest.of(self._manifest_errors[:MAX_ERRORS])


def _storage_problems(source: Mapping[str, Any]) -> list[FieldError]:
    """One error for each top-level field that contains something that can't be stored."""
    problems = ((field, fields.text_problem(field) or fields.json_problem(value)) for field, value in source.items())
    return [fields.field_error(fields.escaped(field), problem) for field, problem in problems if problem]


def _in_manifest(error: FieldError) -> FieldError:
    return fields.field_error(error["field"], f"{error['message']} (in synapse.json)")


def _whole_number(digits: str) -> int | float:
    """Python refuses to parse very long numbers. As infinity, they get the error for numbers that are too large."""
    return int(digits) if len(digits) <= _LONGEST_WHOLE_NUMBER else math.inf


def _number_of_jsonb(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 and -(2**63) <= int(digits) < 2**63 else float(digits)


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")
