"""The problems of an upload. A dry run reports all of them at once."""

import contextlib
from collections.abc import Iterator

from registry.errors import (
    Conflict,
    FieldError,
    Forbidden,
    IdempotencyKeyReused,
    InvalidInput,
    RegistryError,
    VersionBurned,
    VersionExists,
)


class Problems:
    """Runs steps that may fail. With `collect`, it collects their problems instead of raising the first one."""

    def __init__(self, *, collect: bool) -> None:
        self._collect = collect
        self.found: list[RegistryError] = []

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """A block that may fail. Only errors that the client can correct are collected."""
        try:
            yield
        except (InvalidInput, Forbidden, Conflict) as problem:
            if not self._collect:
                raise
            self.found.append(problem)

    def combined(self) -> RegistryError:
        """An error of the first problem's type, with the texts and fields of all problems."""
        details = "; ".join(problem.detail for problem in self.found)
        members = {name: member for each in self.found for name, member in each.members.items()}
        errors = [error for each in self.found for error in _errors_of(each)]
        return type(self.found[0])(details, errors=errors, members=members)


def _errors_of(problem: RegistryError) -> list[FieldError]:
    """The wrong fields of `problem`. A problem that names none gets an entry for the field that caused it."""
    if problem.errors:
        return problem.errors
    fields: dict[type[RegistryError], str] = {
        VersionExists: "version",
        VersionBurned: "version",
        IdempotencyKeyReused: "Idempotency-Key",
    }
    return [{"field": fields.get(type(problem), "name"), "message": problem.detail}]
