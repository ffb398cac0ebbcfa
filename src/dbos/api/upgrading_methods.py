"""The part of ``DBOS`` by which running workflows survive a change of their code."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from dbos.api.instance import get_executor, recording_run
from dbos.error import DBOSException
from dbos.model.limits import check_key
from dbos.runtime.patching import deprecate_patch, patch
from dbos.runtime.run import Run

T = TypeVar("T")


class UpgradingMethods:
    """Patches. None of these methods blocks, so the plain ones may be called in coroutines too."""

    @classmethod
    def patch(cls, patch_name: str) -> bool:
        """Ask a workflow whether to go the new way, where its code was changed.

        Call it in a condition around the change. ``enable_patching`` must be set in the configuration.

        Args:
            patch_name: Names the change, in the recorded step ``DBOS.patch-{patch_name}``. The same name at another
                place of the workflow is another change.

        Returns:
            True for workflows that come here for the first time, and ever after for those; False for workflows that
            were past this place before the patch.

        Raises:
            DBOSException: Patching is not enabled, or it was called outside of workflows or in a step.
        """
        return patch(_patchable_run("DBOS.patch", patch_name), patch_name)

    @classmethod
    def patch_async(cls, patch_name: str) -> Coroutine[Any, Any, bool]:
        """As ``patch``."""
        return _at_once(patch(_patchable_run("DBOS.patch_async", patch_name), patch_name))

    @classmethod
    def deprecate_patch(cls, patch_name: str) -> bool:
        """Take the place of a patch when all workflows that go the old way have ended.

        Workflows that have recorded the patch run on; new ones do not record it any more. When all that have it have
        ended, this call can be removed too.

        Args:
            patch_name: The patch's name.

        Returns:
            True.

        Raises:
            DBOSException: As ``patch``.
        """
        deprecate_patch(_patchable_run("DBOS.deprecate_patch", patch_name), patch_name)
        return True

    @classmethod
    def deprecate_patch_async(cls, patch_name: str) -> Coroutine[Any, Any, bool]:
        """As ``deprecate_patch``."""
        deprecate_patch(_patchable_run("DBOS.deprecate_patch_async", patch_name), patch_name)
        return _at_once(True)


def _patchable_run(caller: str, name: str) -> Run:
    if not check_key(name, "The name of a patch"):
        raise ValueError("The name of a patch must not be empty.")
    context, is_recorded = recording_run()
    if context.run is None:
        raise DBOSException(f"{caller} was called outside of a workflow. Patches are for changes of workflows.")
    if not is_recorded:
        raise DBOSException(
            f"{caller} was called from a step. A step's code may change freely; patch the workflow that calls it."
        )
    if not get_executor(caller).is_patching_enabled:
        raise DBOSException(
            f'{caller} was called, but patching is not enabled. Set "enable_patching": True in the configuration, so '
            "that workflows that began before the change are run by this code too."
        )
    return context.run


async def _at_once(value: T) -> T:
    """Its place in the workflow was taken at the call."""
    return value
