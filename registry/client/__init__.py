"""The client of a registry: the commands that publish, find and install packages.

It speaks HTTP only and imports no room of the service, so it can be installed without the service's dependencies.
"""
