"""SIGTERM: the process starts nothing more, lets running workflows complete for a while, hands back the others, ends.

Without a handler Python ends at once, and other executors learn of it from the lease, seconds later. So ``launch``
installs one, if it is called in the main thread and nobody else has said what SIGTERM does (also not that it is to be
ignored): the handlers of web servers stay theirs. The process ends by the signal, as it would have; the first process
of a container, which no signal ends, exits with the code that a shell gives to that. A second SIGTERM ends it at once.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

_logger = logging.getLogger("dbos")


class TerminationHandler:
    """What is installed; see the module's description.

    Args:
        shut_down: Completes or hands back what runs; called in a thread of its own, while the main thread goes on.
    """

    def __init__(self, shut_down: Callable[[], None]) -> None:
        self._shut_down = shut_down
        self._pid = os.getpid()
        self._is_ending = False

    def install(self) -> None:
        """Handle SIGTERM from now on, if that is nobody else's business."""
        is_free = (
            hasattr(signal, "pthread_kill")
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        )
        if is_free:
            signal.signal(signal.SIGTERM, self._handle)

    def remove(self) -> None:
        """Leave SIGTERM to the system again, unless another handler was installed meanwhile."""
        is_ours = threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGTERM) == self._handle
        )
        if is_ours and not self._is_ending:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_ending or os.getpid() != self._pid:
            # The second one, which may be our own; or in a forked process, which has nothing to hand back.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            # Still here: for the first process of a container, the system ignores the signal.
            os._exit(128 + signal.SIGTERM)
        self._is_ending = True
        # Not here: the handler interrupts the main thread anywhere, also where it holds a lock that this needs.
        threading.Thread(target=self._end, name="dbos-termination").start()

    def _end(self) -> None:
        try:
            self._shut_down()
        except BaseException as error:
            _logger.error("Shutting down failed; other executors take over when the lease has run out: %r", error)
        finally:
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGTERM)
