"""What schemathesis can't know of the API: which bytes are a tarball. Loaded by its own process."""

import base64
from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.client import tarball

VERSIONS = ("1.0.0", "2.0.0", "2.1.0-rc.1", "3.0.0")
TARBALLS = st.builds(
    lambda version, text: tarball(name="hello-world", version=version, description=text),
    st.sampled_from(VERSIONS),
    st.text(),
)

for media_type in ("application/gzip", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, st.one_of(TARBALLS, st.binary()))


@schemathesis.serializer("application/gzip")
def as_it_is(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else repr(value).encode()


@schemathesis.deserializer("application/gzip")
def as_text(context: Any, response: Any) -> str:
    return response.content.decode("latin-1")


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Publishing by JSON gets a tarball that fits the rest, so that more than its first check is reached."""
    if not isinstance(body, dict) or not isinstance(body.get("tarball"), str):
        return body
    about = {field: body.get(field) for field in ("name", "version", "description")}
    return {**body, "tarball": base64.b64encode(tarball(about)).decode()}


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    """Requests for changes don't wait for any, because nothing changes while schemathesis waits."""
    if query and context.operation.path == "/api/v1/changes" and str(query.get("wait", "")).isdecimal():
        return {**query, "wait": 0}
    return query
