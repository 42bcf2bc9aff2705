"""Typed keys of the application for resources that other rooms use."""

from aiohttp import web

from registry.downloads.figures.figures import Figures
from registry.downloads.record import DownloadRecorder

RECORDER = web.AppKey("recorder", DownloadRecorder)
FIGURES = web.AppKey("figures", Figures)
