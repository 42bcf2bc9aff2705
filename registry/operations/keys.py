"""Typed keys of the application for the resources of operators."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from registry.operations.readiness import Readiness

READINESS = web.AppKey("readiness", Readiness)
DOCUMENT: web.AppKey[Mapping[str, Any]] = web.AppKey("openapi", Mapping)
"""The OpenAPI description of the API."""
