"""Progress for people (bars) and for logs (a line now and then)."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LOG_EVERY_PERCENT = 25


class ProgressBoard:
    """A bar for each of some named tasks of known length; where the output is no terminal, a line every so often."""

    def __init__(self, console: Console, totals: dict[str, int]) -> None:
        self._console = console
        self._totals = totals
        self._progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._bars: dict[str, TaskID] = {name: self._progress.add_task(name, total=totals[name]) for name in totals}
        self._logged_percent = dict.fromkeys(totals, 0)

    def __enter__(self) -> ProgressBoard:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, name: str, done: int) -> None:
        """Show that `done` units of a task are done."""
        if self._console.is_terminal:
            self._progress.update(self._bars[name], completed=done)
        else:
            self._log(name, done)

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(text, highlight=False)

    def _log(self, name: str, done: int) -> None:
        percent = 100 * done // self._totals[name] // LOG_EVERY_PERCENT * LOG_EVERY_PERCENT
        if percent > self._logged_percent[name]:
            self._logged_percent[name] = percent
            self._console.print(f"{name}: {done} of {self._totals[name]}", highlight=False)
