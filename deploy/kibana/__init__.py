"""Generates the registry's Kibana dashboards. README.md explains how to import and change them."""
