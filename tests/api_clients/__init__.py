"""Linters and generators of clients, run on the API description, and the clients that they make, run on a registry."""
