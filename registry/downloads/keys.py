"""Typed keys of the application for resources that other rooms use."""

from aiohttp import web

from registry.downloads.figures.figures import Figures

FIGURES = web.AppKey("figures", Figures)
