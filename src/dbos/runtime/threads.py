"""Threads and the event loop of the library's own.

Workflows may wait for workflows, so the threads they run in must never run out: there is no upper limit, and a thread
that ended its work is used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable

from dbos.storage.errors import JournalClosed
from dbos.storage.promise import Bell

_logger = logging.getLogger("dbos")

STOP_S = 2.0
"""How long shutdown waits for the event loop."""

IDLE_S = 10.0
"""How long a thread waits for more work before it ends."""


class ElasticThreads:
    """As many daemon threads as there is work at a time; idle ones are used again, the latest first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._idle: deque[_Worker] = deque()
        self._count = 0
        self.errands: set[Errand] = set()
        """What is to be done or being done of them."""

    def submit(self, work: Callable[[], None]) -> None:
        """Run the work in a thread, at once."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
            self._count += worker is None
            number = self._count
        if worker is None:
            _Worker(self, f"{self._name}-{number}", work).start()
        else:
            worker.take(work)

    def await_work(self, worker: _Worker) -> bool:
        """Wait for more work; returns whether there is some."""
        with self._lock:
            self._idle.append(worker)
        if worker.bell.wait(IDLE_S):
            return True
        with self._lock, contextlib.suppress(ValueError):
            self._idle.remove(worker)
            return False
        # Somebody took it off the idle ones and is about to hand it work.
        return worker.bell.wait()


class _Worker:
    def __init__(self, pool: ElasticThreads, name: str, work: Callable[[], None]) -> None:
        self._pool = pool
        self._work: Callable[[], None] | None = work
        self.bell = Bell()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self, work: Callable[[], None]) -> None:
        self._work = work
        self.bell.ring()

    def _run(self) -> None:
        while True:
            work, self._work = self._work, None
            if work is not None:
                try:
                    work()
                except BaseException:
                    _logger.exception("A background thread's work failed unexpectedly")
            del work
            if not self._pool.await_work(self):
                return


class Errand:
    """Work that is done in the background, one at a time; asked for while it is done, it is done once more.

    Args:
        threads: Where it is done.
        work: What is done.
        name: What it is, for the log, as the subject of a sentence.
    """

    def __init__(self, threads: ElasticThreads, work: Callable[[], object], name: str) -> None:
        self._threads = threads
        self._work = work
        self._name = name
        self._lock = threading.Lock()
        self._is_wanted = False
        self.is_stopped = False
        self.is_running = False

    def run_soon(self) -> None:
        """Do it in the background; if it is being done, once more afterwards."""
        with self._lock:
            self._is_wanted = True
            if self.is_running or self.is_stopped:
                return
            self.is_running = True
            self._threads.errands.add(self)
        try:
            self._threads.submit(self._run)
        except RuntimeError as error:
            self._rest()
            _logger.error("%s is put off: %r", self._name, error)

    def stop(self) -> None:
        """Do it no more; what is being done fails in silence."""
        self.is_stopped = True

    def _rest(self) -> None:
        self.is_running = False
        self._threads.errands.discard(self)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._is_wanted or self.is_stopped:
                    self._rest()
                    return
                self._is_wanted = False
            try:
                self._work()
            except JournalClosed:
                pass
            except BaseException as error:
                if not self.is_stopped:
                    _logger.warning("%s failed, it is tried again soon: %r", self._name, error)


class BackgroundLoop:
    """An event loop in a thread of its own, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=self._run, args=(loop,), name="dbos-event-loop", daemon=True)
                thread.start()
                self._loop, self._thread = loop, thread
            return self._loop

    def stop(self) -> None:
        """Cancel what runs on the loop and stop it; what does not let itself be stopped is left behind."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(STOP_S)

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            while True:
                try:
                    loop.run_forever()
                    break
                except (KeyboardInterrupt, SystemExit):
                    # Raised by a workflow; the others go on.
                    continue
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=STOP_S / 2))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
