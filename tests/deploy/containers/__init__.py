"""`make containers`: follows the runbook on a real Docker engine, with the compose file as it is."""
