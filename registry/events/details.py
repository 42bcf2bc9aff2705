"""Users in the details of audit entries. The details have ids (members `user_id`); readers see names."""

from collections.abc import Iterator, Mapping
from typing import Any


def users_in(details: Any) -> Iterator[int]:
    """The ids of the users that the details name."""
    if isinstance(details, Mapping):
        if isinstance(details.get("user_id"), int):
            yield details["user_id"]
        for value in details.values():
            yield from users_in(value)
    elif isinstance(details, list):
        for value in details:
            yield from users_in(value)


def with_names(details: Any, names: Mapping[int, str]) -> Any:
    """The details with `username` in place of each `user_id`. An id that is not in `names` becomes None."""
    if isinstance(details, Mapping):
        return dict(
            ("username", names.get(value)) if key == "user_id" else (key, with_names(value, names))
            for key, value in details.items()
        )
    if isinstance(details, list):
        return [with_names(value, names) for value in details]
    return details
