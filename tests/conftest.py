"""What every layer shares."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of this suite."""
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run (for CI)")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skip is a failure: it must not count as passed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not session.config.getoption("--no-skips") or reporter is None:
        return
    if skipped := len(reporter.stats.get("skipped", ())):
        reporter.write_line(f"{skipped} tests were skipped, and --no-skips forbids that", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
