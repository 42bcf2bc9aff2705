"""Synapse Package Registry: publish, find and install packages."""

__version__ = "1.0.0"
