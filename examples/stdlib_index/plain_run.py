"""The yardstick: the same index by a plain loop in a process of its own, without workflows and without kills."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from stdlib_files import Package, Summary, combine, summarise_package


class PlainRun:
    """A run in the background: `done` counts the packages so far, `result` waits for the rest."""

    def __init__(self, summaries: list[Future[Summary]]) -> None:
        self._summaries = summaries

    @property
    def done(self) -> int:
        """How many packages are indexed."""
        return sum(future.done() for future in self._summaries)

    def result(self) -> Summary:
        """The index of all packages; raises what the loop raised."""
        return combine("standard library", (future.result() for future in self._summaries))


@contextmanager
def plain_run(packages: Iterable[Package]) -> Iterator[PlainRun]:
    """Index the packages one after the other in one other process, which ends with the `with` block."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"), initializer=_leave_ctrl_c_alone) as pool:
        try:
            yield PlainRun([pool.submit(summarise_package, package) for package in packages])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _leave_ctrl_c_alone() -> None:
    """Ctrl-C goes to every process of the terminal; only the supervisor acts on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
