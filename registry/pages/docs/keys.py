"""The key of the application for the reference of the API."""

from aiohttp import web

from registry.pages.docs.reference import Reference

REFERENCE = web.AppKey("reference", Reference)
