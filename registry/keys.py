"""Typed keys of the application for the resources that every room may use."""

from aiohttp import web

from registry.db.engine import Database
from registry.events.announcements import Announcements
from registry.settings import Settings
from registry.storage.base import Storage
from registry.web.spool import Spool

SETTINGS = web.AppKey("settings", Settings)
DB = web.AppKey("db", Database)
STORAGE: web.AppKey[Storage] = web.AppKey("storage", Storage)
SPOOL = web.AppKey("spool", Spool)
ANNOUNCEMENTS = web.AppKey("announcements", Announcements)
