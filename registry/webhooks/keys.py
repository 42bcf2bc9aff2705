"""What requests for webhooks need, as typed keys of the application."""

from aiohttp import web

from registry.changes.log import ChangeLog
from registry.sealing import Sealer
from registry.webhooks.guard import Guard

CHANGES = web.AppKey("webhook_changes", ChangeLog)
GUARD = web.AppKey("webhook_guard", Guard)
SEALER = web.AppKey("webhook_sealer", Sealer)
