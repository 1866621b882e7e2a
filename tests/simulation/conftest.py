"""How many histories are played."""

from __future__ import annotations

import pytest


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    """The seeds of this run: one with ``--seed N``, else ``--seeds N`` of them."""
    one = request.config.getoption("--seed")
    return range(one, one + 1) if one is not None else range(request.config.getoption("--seeds"))
