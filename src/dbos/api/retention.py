"""The part of the configuration that says for how long workflows are kept."""

from __future__ import annotations

from typing import TypedDict, cast

from dbos.model.limits import MAX_TIMEOUT_S
from dbos.model.retention import RetentionPolicy


class RetentionConfig(TypedDict, total=False):
    """What is kept of the workflows that have ended. Without a limit, all of them are.

    What has not ended is always kept, and so are the children of what has not ended.

    Attributes:
        max_age_sec: They are deleted so many seconds after they were created.
        max_workflows: They are deleted when so many newer workflows were created.
        max_age_sec_by_name: The age for workflows of single functions, instead of the general one.
    """

    max_age_sec: float | None
    max_workflows: int | None
    max_age_sec_by_name: dict[str, float] | None


def read_retention(config: object) -> RetentionPolicy:
    """Check the policy.

    Raises:
        ValueError: It is wrong; the text says how.
    """
    if not isinstance(config, dict):
        raise ValueError("must be a dict")
    given = cast("dict[object, object]", config)
    unknown = set(given) - set(RetentionConfig.__annotations__)
    if unknown:
        raise ValueError(f"has no field {sorted(map(str, unknown))[0]!r}; it has {_FIELDS}")
    by_name = _ages(given.get("max_age_sec_by_name"))
    age = given.get("max_age_sec")
    number = given.get("max_workflows")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**31):
        raise ValueError("max_workflows must be an int from 0 on")
    return RetentionPolicy(None if age is None else _milliseconds(age, "max_age_sec"), number, by_name)


_FIELDS = ", ".join(RetentionConfig.__annotations__)


def _ages(value: object) -> dict[str, int]:
    ages: dict[str, int] = {}
    if value is None:
        return ages
    if not isinstance(value, dict):
        raise ValueError("max_age_sec_by_name must be a dict of names to seconds")
    for name, age in cast("dict[object, object]", value).items():
        if not isinstance(name, str):
            raise ValueError("max_age_sec_by_name must be a dict of names to seconds")
        ages[name] = _milliseconds(age, f"max_age_sec_by_name[{name!r}]")
    return ages


def _milliseconds(seconds: object, what: str) -> int:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= MAX_TIMEOUT_S:
        raise ValueError(f"{what} must be a number of seconds from 0 on")
    return round(seconds * 1000)
