"""A folder to run the commands in, as a user's clone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def project(new_project: Callable[[], Path]) -> Path:
    """A folder of a test's own."""
    return new_project()
