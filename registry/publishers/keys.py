"""What requests for trusted publishers need, as a typed key of the application."""

from aiohttp import web

from registry.publishers.issuers import Issuers

ISSUERS = web.AppKey("issuers", Issuers)
