"""The plugin for pytest, as users meet it: in runs of pytest of its own."""

from __future__ import annotations

import pytest

PROGRAM = """
from dbos import DBOS

calls = []

@DBOS.step()
def charge(item):
    calls.append(item)
    return f"receipt for {item}"

@DBOS.workflow()
def checkout(item):
    DBOS.sleep(86400)
    return charge(item)
"""


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but this plugin, as the others take their time."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("DBOS_TEST_DATABASE_URL", raising=False)


def run(pytester: pytest.Pytester, tests: str) -> pytest.RunResult:
    """Run these tests of the program in a process of its own."""
    pytester.makepyfile(shop=PROGRAM)
    pytester.makepyfile(test_shop=tests)
    return pytester.runpytest_subprocess("-p", "pytest_dbos", "-p", "no:cacheprovider")


def test_nothing_of_the_library_is_imported_before_it_is_needed(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import sys

        def test_plain():
            assert "pytest_dbos" in sys.modules
            assert [name for name in sys.modules if name.partition(".")[0] in ("dbos", "sqlalchemy")] == []
        """,
    )
    result.assert_outcomes(passed=1)


def test_each_test_has_an_empty_database_and_the_same_functions(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        import shop
        from dbos import DBOS, SetWorkflowID

        @pytest.fixture
        def dbos_config():
            return {"executor_id": "mine", "name": None}

        @pytest.mark.parametrize("number", range(2))
        def test_checkout(dbos_app, dbos_clock, number):
            assert DBOS.executor_id == "mine"
            assert DBOS.list_workflows() == []
            with SetWorkflowID("order"):
                handle = DBOS.start_workflow(shop.checkout, "lamp")
            dbos_clock.advance(86400)
            assert handle.get_result() == "receipt for lamp"
            assert len(shop.calls) == number + 1

        def test_that_fails_leaves_a_workflow_behind(dbos_clock):
            DBOS.start_workflow(shop.checkout, "lamp")
            raise RuntimeError("the test's own failure")

        def test_after_it(dbos_app, request):
            assert DBOS.list_workflows() == []
            assert dbos_app.clock is None
            clock = request.getfixturevalue("dbos_clock")
            with clock.skipping():
                assert shop.checkout("late") == "receipt for late"
        """,
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*RuntimeError: the test's own failure"])


def test_mistakes_are_explained(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    own = """
        import pytest

        @pytest.fixture
        def dbos_config():
            return {"system_database_url": "postgresql://production/shop"}

        def test_refused(dbos_app):
            pass
        """
    result = run(pytester, own)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*dbos_config names system_database_url*"])

    monkeypatch.setenv("DBOS_TEST_DATABASE_URL", "mysql://localhost/shop")
    result = run(pytester, "def test_wrong_url(dbos_app): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*DBOSInitializationError: *database URL begins with mysql://*"])
