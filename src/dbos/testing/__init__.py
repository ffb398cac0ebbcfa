"""For the tests of programs that use the library: docs/testing.md.

The fixtures for pytest are in the module ``pytest_dbos``; they work without being imported.
"""

from dbos.testing.application import App
from dbos.testing.clock import VirtualClock
from dbos.testing.databases import SessionDatabase

__all__ = ["App", "SessionDatabase", "VirtualClock"]
