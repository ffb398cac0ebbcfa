"""Who a workflow runs for: the authenticated user, the roles that they have, and the one by which they were let in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from dbos.error import DBOSNotAuthorizedError


@dataclass(frozen=True, slots=True)
class Authentication:
    """See the module's description.

    Attributes:
        user: The user's name; ``None`` if nobody is authenticated.
        roles: The roles that they have; ``None`` if nobody is authenticated.
        assumed_role: That of them which the called function requires; or, if it requires none, the one of whoever
            called it.
    """

    user: str | None = None
    roles: tuple[str, ...] | None = None
    assumed_role: str | None = None

    @property
    def roles_text(self) -> str | None:
        """The roles as they are stored: a JSON list."""
        return None if self.roles is None else json.dumps(self.roles)

    def entering(self, function: str, required: Sequence[str] | None) -> Authentication:
        """Who runs a function that requires one of these roles: as the first of them that the user has.

        Args:
            function: Its name, for the error.
            required: ``None`` or empty: it requires none.

        Raises:
            DBOSNotAuthorizedError: The user has none of them.
        """
        if not required:
            return self
        for role in required:
            if role in (self.roles or ()):
                return self if role == self.assumed_role else replace(self, assumed_role=role)
        names = ", ".join(map(repr, required))
        if self.roles is None:
            raise DBOSNotAuthorizedError(
                f"{function} requires one of the roles {names}, and nobody is authenticated. Call it inside of "
                "DBOSContextSetAuth(user, roles), or after DBOS.set_authentication(user, roles)."
            )
        has = ", ".join(map(repr, self.roles)) or "none"
        raise DBOSNotAuthorizedError(f"{function} requires one of the roles {names}; user {self.user!r} has {has}.")


NOBODY = Authentication()


def stored_authentication(user: str | None, assumed_role: str | None, roles: str | None) -> Authentication:
    """What a row says. Roles that are not a JSON list of strings, which this library did not write, give no right."""
    if user is None and assumed_role is None and roles is None:
        return NOBODY
    return Authentication(user, None if roles is None else parse_roles(roles) or (), assumed_role)


def parse_roles(text: str) -> tuple[str, ...] | None:
    """The stored roles; ``None`` if the text is not a JSON list."""
    try:
        roles: Any = json.loads(text)
    except ValueError:
        return None
    return tuple(map(str, cast("list[object]", roles))) if isinstance(roles, list) else None
