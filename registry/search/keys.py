"""The search index and the searches as typed keys of the application."""

from aiohttp import web

from registry.search.index import SearchIndex
from registry.search.search import Searcher

SEARCH = web.AppKey("search", SearchIndex)
SEARCHER = web.AppKey("searcher", Searcher)
