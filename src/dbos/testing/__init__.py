"""For the tests of programs that use the library: docs/testing.md.

The fixtures for pytest are in the module ``pytest_dbos``; they work without being imported.
"""

from dbos.testing.application import App
from dbos.testing.clock import VirtualClock
from dbos.testing.crashes import CrashTest, assert_survives_crashes
from dbos.testing.databases import SessionDatabase
from dbos.testing.replaying import Replay, assert_replays, replay

__all__ = [
    "App",
    "CrashTest",
    "Replay",
    "SessionDatabase",
    "VirtualClock",
    "assert_replays",
    "assert_survives_crashes",
    "replay",
]
