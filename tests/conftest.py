"""What every layer shares."""

from __future__ import annotations

import pytest

EXPECTED = "(expected)"
"""Ends the reason of a skip that CI accepts: what the test needs can't be had on that machine."""

LAYERS = ("unit", "simulation", "contract", "chaos", "browser")
"""From the quickest to the slowest: what is wrong is told soon."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of this suite."""
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run (for CI)")
    parser.addoption("--seeds", type=int, default=2000, help="simulated histories per view")
    parser.addoption("--kills", type=int, default=5, help="processes of a local stack that are killed")
    parser.addoption(
        "--seed", type=int, default=None, help="replay one simulated history, or one order of kills"
    )
    parser.addoption("--chaos-hold", type=float, default=0.0, help="least seconds that a fault lasts")
    parser.addoption("--chaos-report", help="write the chaos layer's table to this file, as JSON")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Layer by layer, each in pytest-randomly's order.

    What a layer keeps running for all its tests, such as the browser's dashboard with its live stores, is not
    there for the layers before it, which count tasks, timers and log records.
    """
    items.sort(key=lambda item: (*LAYERS, item.path.parent.name).index(item.path.parent.name))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skip is a failure: it must not count as passed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not session.config.getoption("--no-skips") or reporter is None:
        return
    unexpected = [
        report for report in reporter.stats.get("skipped", ()) if EXPECTED not in str(report.longrepr)
    ]
    if unexpected:
        reporter.write_line(f"{len(unexpected)} tests were skipped, and --no-skips forbids that", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
