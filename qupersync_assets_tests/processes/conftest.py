"""A folder to run the commands in, as a user's clone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def project(new_project: Callable[[], Path]) -> Path:
    """A new folder for each test."""
    return new_project()
