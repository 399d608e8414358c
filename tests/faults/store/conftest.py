"""Run the fault tests with each store that keeps files."""

from __future__ import annotations

import pytest
from store_files import MAKERS, Make


@pytest.fixture(params=list(MAKERS))
def make(request: pytest.FixtureRequest) -> Make:
    return MAKERS[request.param]
