"""What an executor serves: which queues it listens to and which functions it knows, as it tells the others."""

from __future__ import annotations

from dataclasses import dataclass

from dbos.model.queues import QueueRules


@dataclass(frozen=True, slots=True)
class Serving:
    """See the module's description.

    Attributes:
        queues: The queues whose workflows it starts, with the rules by which it does.
        functions: The names under which it finds functions of workflows, in order.
    """

    queues: tuple[QueueRules, ...]
    functions: tuple[str, ...]

    def rules_of(self, queue_name: str) -> QueueRules | None:
        """The rules of a queue; ``None`` if it does not listen to it."""
        return next((rules for rules in self.queues if rules.name == queue_name), None)
