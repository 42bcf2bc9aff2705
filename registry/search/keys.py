"""The search index as a typed key of the application."""

from aiohttp import web

from registry.search.index import SearchIndex

SEARCH = web.AppKey("search", SearchIndex)
