"""Log records that tell of which workflow and step they are."""

from __future__ import annotations

import logging

from dbos.runtime.context import CONTEXT


class WorkflowLogFilter(logging.Filter):
    """Lets every record pass, and gives it ``workflow_id`` and ``step_id``: ``None`` outside of workflows and steps.

    The logger ``dbos`` has it. Add it to a handler, and the records of all loggers that come there have them too. What
    a record has under these names already is left alone.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        fields = record.__dict__
        context = CONTEXT.get()
        fields.setdefault("workflow_id", None if context.run is None else context.run.workflow_id)
        fields.setdefault("step_id", None if context.step is None else context.step.step_id)
        return True


WORKFLOW_FILTER = WorkflowLogFilter()
