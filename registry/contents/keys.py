"""The room's shared resources as typed keys of the application."""

from aiohttp import web

from registry.contents.compare import Comparer
from registry.contents.reader import Contents
from registry.rendering.process import Workers

CONTENTS = web.AppKey("contents", Contents)
WORKERS = web.AppKey("workers", Workers)
COMPARER = web.AppKey("comparer", Comparer)
