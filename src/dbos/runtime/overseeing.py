"""Overseers: whoever is told of each call that a workflow makes before it is answered, also from the record.

Usually there is nobody. The tests of programs oversee; ``Executor.overseer`` is set for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from dbos.runtime.run import Run


class Overseer(Protocol):
    """See the module's description.

    Attributes:
        separates_end: Whether the end of a workflow is made durable after its last checkpoint, and not together with
            it, as if the workflow had dawdled in between.
    """

    separates_end: bool

    def called(
        self,
        run: Run,
        function_id: int,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Callable[..., Any]:
        """A workflow calls a step, a transaction or a child, which may be recorded already.

        Returns:
            The function to call if it is not: the given one, or one around it. For a child it is left unused.
        """
        ...
