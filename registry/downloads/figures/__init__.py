"""Figures for the pages: weekly downloads of packages, and which packages are downloaded most."""
