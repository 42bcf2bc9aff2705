"""Merges a version's metadata. Fields of the request take precedence over fields of synapse.json."""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from registry.errors import FieldError, InvalidInput, InvalidManifest
from registry.package_format import fields
from registry.package_format.versions import Version

MAX_MANIFEST = 1024 * 1024
MAX_README = 512 * 1024
MAX_ERRORS = 200

REQUIRED = ("name", "version", "description")
FIELDS = (*REQUIRED, "author", "license", "homepage", "repository", "keywords", "dependencies", "readme")

# The number of digits of the largest double, and a sign.
_LONGEST_WHOLE_NUMBER = 310
_LONG_NUMBER = re.compile("[0-9]{20}")
_NO_VERSION = Version("", "", "", "", "", "")

T = TypeVar("T")


@dataclass(frozen=True)
class Manifest:
    """A parsed synapse.json.

    `text` is its JSON without a byte order mark. It is the published text, unless that had repeated members. When
    `merge` has accepted the members, every JSON parser can read the text.
    """

    members: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Metadata:
    """The valid fields of a version. Optional fields that were left out are empty. `manifest` is a JSON text."""

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
    """Parses a synapse.json of at most MAX_MANIFEST bytes. Raises InvalidManifest unless it is a JSON object."""
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
    # JSON parsers disagree about the value of a repeated key. So the stored text has only the value that is checked.
    return Manifest(manifest, json.dumps(manifest, ensure_ascii=False) if repeated else text)


def manifest_text_of_jsonb(stored: str) -> str:
    """The text of a manifest that an earlier release stored as JSONB. `stored` is the JSONB value as text.

    PostgreSQL writes a number such as 1e-300 with all its 300 digits. This function shortens such numbers. They were
    published as doubles, because those releases refused integers beyond 64 bits. Parsing may be slow: call it in a
    thread.
    """
    if not _LONG_NUMBER.search(stored):
        return stored
    return json.dumps(json.loads(stored, parse_int=_number_of_jsonb), ensure_ascii=False)


def merge(
    request: Mapping[str, Any], manifest: Manifest, *, readme: str = "", required: Collection[str] = ()
) -> Metadata:
    """Merges the fields of the request and of the manifest. The request's take precedence, unless they are null.

    `readme` is the archive's README, used if the request has none. `required` names the fields that the request must
    have. Raises InvalidManifest if all problems are in synapse.json, InvalidInput otherwise, with up to MAX_ERRORS
    problems. Parsing 1,000 of the slowest ranges takes seconds: call it in a thread.
    """
    sources = _Sources(request, manifest.members, required)
    metadata = _read(sources, readme, manifest.text)
    sources.raise_problems()
    return metadata


def request_problems(request: Mapping[str, Any], required: Collection[str] = ()) -> list[FieldError]:
    """The problems of the request's fields, when there is no manifest to check. Call it in a thread, like `merge`."""
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
    """`text` without NULs, cut to at most MAX_README bytes of UTF-8. Keeps or removes each character as a whole."""
    return text.replace("\x00", "").encode()[:MAX_README].decode(errors="ignore")


class _Sources:
    """Reads fields from the request and the manifest, and collects the problems of both."""

    def __init__(self, request: Mapping[str, Any], manifest: Mapping[str, Any], required: Collection[str]) -> None:
        self._request = {field: request[field] for field in FIELDS if request.get(field) is not None}
        self._manifest = manifest
        self.request_errors = [fields.field_error(f, "is required") for f in required if f not in self._request]
        self.request_errors += _storage_problems(self._request)
        self._manifest_errors = [_in_manifest(error) for error in _storage_problems(manifest)]
        self._skip_request = {error["field"] for error in self.request_errors}
        self._skip_manifest = {error["field"] for error in self._manifest_errors}

    def take(self, field: str, read: Callable[[str, Any], T], empty: T) -> T:
        """The field's value from the request, or from the manifest if the request doesn't have the field.

        `read` checks the value. Returns `empty` if the field is missing or invalid.
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
        """The field's value from the request only."""
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
    """One error for each field of `source` whose name or value can't be stored."""
    problems = ((field, fields.text_problem(field) or fields.json_problem(value)) for field, value in source.items())
    return [fields.field_error(fields.escaped(field), problem) for field, problem in problems if problem]


def _in_manifest(error: FieldError) -> FieldError:
    return fields.field_error(error["field"], f"{error['message']} (in synapse.json)")


def _whole_number(digits: str) -> int | float:
    """Returns infinity, which is refused later, for integers of more digits than Python and other parsers can read."""
    return int(digits) if len(digits) <= _LONGEST_WHOLE_NUMBER else math.inf


def _number_of_jsonb(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 and -(2**63) <= int(digits) < 2**63 else float(digits)


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")
