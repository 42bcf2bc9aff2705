"""Receives uploads. A body may be JSON with base64, multipart, or the tarball itself. Each becomes an `Upload`."""

import asyncio
import base64
import binascii
import contextlib
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from aiohttp import (
    BadContentDispositionHeader,
    BadContentDispositionParam,
    BodyPartReader,
    MultipartReader,
    hdrs,
    web,
)
from aiohttp.http_exceptions import HttpProcessingError

from registry.errors import InvalidInput, TooLarge, UnsupportedMediaType
from registry.package_format.fields import escaped
from registry.package_format.manifest import REQUIRED, request_problems
from registry.packages.inspection import InspectionPool
from registry.packages.publish import Upload
from registry.web.parsing import MAX_JSON_BODY, flag_of, parse_object
from registry.web.problems import send_continue
from registry.web.spool import Spool, Spooled

TARBALL_TYPES = ("application/gzip", "application/x-gzip", "application/x-tar+gzip", "application/octet-stream")
MAX_IDEMPOTENCY_KEY = 255
FIELDS_TOO_LARGE = "The fields other than the tarball are too large: at most 1 MiB is accepted."
# The body may have one additional byte for each 16 characters of base64, for line breaks and escapes such as `\/`.
ESCAPED = 16
# Base64 is decoded in pieces of this many characters, a multiple of 4.
BASE64_PIECE = 1 << 20

# Python never forgets the text of a warning that was shown, and these texts contain what clients sent.
for _category in (BadContentDispositionHeader, BadContentDispositionParam):
    warnings.filterwarnings("ignore", category=_category)


class Receiver:
    """Receives uploads into `spool`. A tarball may have at most `max_tarball` bytes."""

    def __init__(self, spool: Spool, inspections: InspectionPool, max_tarball: int) -> None:
        self._spool = spool
        self._inspections = inspections
        self._max_tarball = max_tarball
        self._too_large = f"The tarball is too large: at most {max_tarball} bytes are accepted."
        # Parsing a JSON body takes several times its size in memory, so only two are parsed at a time.
        self._parsing = asyncio.Semaphore(2)

    @contextlib.asynccontextmanager
    async def raw(self, request: web.Request, name: str, version: str) -> AsyncIterator[Upload]:
        """PUT: the body is the tarball, whose manifest contains the metadata. Raises UnsupportedMediaType, TooLarge."""
        # `request.content_type` is application/octet-stream also for a header that can't be parsed.
        given = request.headers.get(hdrs.CONTENT_TYPE, TARBALL_TYPES[0])
        if given.partition(";")[0].strip().lower() not in TARBALL_TYPES:
            raise UnsupportedMediaType("Send the tarball as application/gzip (curl: -T FILE).")
        self._check_declared(request, self._max_tarball)
        options = _options(request)
        await send_continue(request)
        async with self._receive(request.content.iter_any()) as tarball:
            yield Upload({"name": name, "version": version}, tarball, **options)

    @contextlib.asynccontextmanager
    async def json(self, request: web.Request) -> AsyncIterator[Upload]:
        """POST: a JSON object with the tarball in base64. Raises TooLarge, InvalidInput."""
        limit = self._max_tarball * 4 // 3 + self._max_tarball // 16 + MAX_JSON_BODY
        self._check_declared(request, limit)
        options = _options(request)
        await send_continue(request)
        async with contextlib.AsyncExitStack() as stack:
            body = await stack.enter_async_context(
                self._spool.receive(request.content.iter_any(), limit=limit, too_large=self._too_large)
            )
            async with self._parsing:
                fields = await asyncio.to_thread(_parsed, body.content)
                encoded = fields.pop("tarball", None)
                other_bytes = body.size - len(encoded if isinstance(encoded, str) else "")
                if other_bytes > MAX_JSON_BODY + (body.size - other_bytes) // ESCAPED:
                    raise TooLarge(FIELDS_TOO_LARGE)
                try:
                    tarball = await stack.enter_async_context(self._receive(_decoded(encoded)))
                except InvalidInput as problem:
                    raise await self._with_field_problems(fields, problem) from None
                del encoded  # it may have 133 MiB, and inspecting the upload takes long
            yield Upload(fields, tarball, required=REQUIRED, **options)

    @contextlib.asynccontextmanager
    async def multipart(self, request: web.Request) -> AsyncIterator[Upload]:
        """POST: a part `metadata` with JSON and a part `tarball` with the file, in any order.

        Raises TooLarge, InvalidInput.
        """
        self._check_declared(request, self._max_tarball + 2 * MAX_JSON_BODY)
        options = _options(request)
        await send_continue(request)
        fields: dict[str, Any] | None = None
        tarball: Spooled | None = None
        async with contextlib.AsyncExitStack() as stack:
            async for name, part in _parts(request):
                if name == "metadata" and fields is None:
                    fields = parse_object(await _read_small(part))
                elif name == "tarball" and tarball is None:
                    tarball = await stack.enter_async_context(self._receive(_chunks(part)))
                else:
                    raise InvalidInput.field(
                        escaped(name) or "body", "is an unknown part, or a part that was sent twice"
                    )
            if fields is None or tarball is None:
                missing = [name for name, part in (("metadata", fields), ("tarball", tarball)) if part is None]
                problem = InvalidInput.of([{"field": name, "message": "this part is required"} for name in missing])
                raise problem if fields is None else await self._with_field_problems(fields, problem)
            yield Upload(fields, tarball, required=REQUIRED, **options)

    async def _with_field_problems(self, fields: dict[str, Any], problem: InvalidInput) -> InvalidInput:
        """An error with the problems of the fields, and then the `problem` of the tarball."""
        found = await self._inspections.run(lambda: request_problems(fields, REQUIRED))
        return InvalidInput.of([*found, *problem.errors])

    def _receive(self, chunks: AsyncIterator[bytes]) -> contextlib.AbstractAsyncContextManager[Spooled]:
        return self._spool.receive(chunks, limit=self._max_tarball, too_large=self._too_large)

    def _check_declared(self, request: web.Request, limit: int) -> None:
        if (request.content_length or 0) > limit:
            raise TooLarge(self._too_large)


async def continue_later(_: web.Request) -> None:
    """Delays the answer to `Expect: 100-continue`. The receiver sends it when it accepts the request, so that clients
    don't send bodies that are refused.
    """


def _options(request: web.Request) -> dict[str, Any]:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= MAX_IDEMPOTENCY_KEY and key.isascii() and key.isprintable()):
        raise InvalidInput.field("Idempotency-Key", f"must be 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters")
    return {
        "checksum": request.headers.get("X-Checksum-SHA256"),
        "idempotency_key": key,
        "dry_run": flag_of(request, "dry_run"),
    }


def _parsed(content: Path | bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises InvalidInput, and TooLarge if it has more values than fit into 1 MiB."""
    body = content.read_bytes() if isinstance(content, Path) else content
    # Each JSON value except the first one follows one of these characters. Base64 contains none of them.
    if sum(body.count(mark) for mark in b"[{,") > MAX_JSON_BODY:
        raise TooLarge(FIELDS_TOO_LARGE)
    return parse_object(body)


async def _decoded(encoded: Any) -> AsyncIterator[bytes]:
    """Decodes a base64 text, which may have line breaks. Raises InvalidInput."""
    if not isinstance(encoded, str) or not encoded:
        raise InvalidInput.field("tarball", "is required: the .tar.gz file in base64")
    if any(blank in encoded for blank in "\n\r\t "):
        encoded = await asyncio.to_thread(lambda: "".join(encoded.split()))
    for start in range(0, len(encoded), BASE64_PIECE):
        piece = encoded[start : start + BASE64_PIECE]
        try:
            yield await asyncio.to_thread(base64.b64decode, piece, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidInput.field("tarball", "is not valid base64") from None


async def _parts(request: web.Request) -> AsyncIterator[tuple[str, BodyPartReader]]:
    """Yields the name and the content of each part of a multipart body. Raises InvalidInput if it is malformed."""
    with _form_errors_named():
        reader = await request.multipart()
    while True:
        with _form_errors_named():
            part = await reader.next()
        if part is None:
            return
        if isinstance(part, MultipartReader):
            raise InvalidInput("A part must not contain other parts.")
        if part.headers.get(hdrs.CONTENT_TRANSFER_ENCODING, "binary").lower() not in ("binary", "8bit", "7bit"):
            raise InvalidInput("Send the parts without a Content-Transfer-Encoding.")
        if hdrs.CONTENT_ENCODING in part.headers:
            raise InvalidInput("Send the parts without a Content-Encoding.")
        yield part.name or "", part


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while True:
        with _form_errors_named():
            chunk = await part.read_chunk(1 << 16)
        if not chunk:
            return
        yield chunk


@contextlib.contextmanager
def _form_errors_named() -> Iterator[None]:
    """Raises InvalidInput for the errors of aiohttp about a malformed form. Some of these are assertions."""
    try:
        yield
    except (ValueError, AssertionError, RuntimeError, LookupError, HttpProcessingError) as error:
        raise InvalidInput("The body is not well-formed multipart/form-data.") from error


async def _read_small(part: BodyPartReader) -> bytes:
    data = bytearray()
    async for chunk in _chunks(part):
        data += chunk
        if len(data) > MAX_JSON_BODY:
            raise TooLarge("The part `metadata` is too large: at most 1 MiB is accepted.")
    return bytes(data)
