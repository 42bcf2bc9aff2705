"""Idempotency keys: a publish that is repeated gets the answer of the first one."""
