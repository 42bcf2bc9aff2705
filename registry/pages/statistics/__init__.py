"""The pages of statistics: downloads of the registry and of a package, as charts, tables and CSV."""
