"""Writes the health page to a file."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qupersync_assets.cli.console import CommandError

if TYPE_CHECKING:
    from qupersync_assets.postgres.resource import PostgresResource


def write_page(postgres: PostgresResource, clusters: Sequence[str], file: Path) -> None:
    """Write the health page of the clusters, for this user only: it may contain texts of statements.

    Raises:
        CommandError: the file cannot be written.
        SyncError: PostgreSQL cannot be reached, or the extra `report` is not installed.
    """
    from qupersync_assets.health.report import render

    page = render(postgres, clusters)
    # A reader sees the old file or the new one, and not a part of it.
    with contextlib.ExitStack() as stack:
        try:
            with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as new:
                stack.callback(Path(new.name).unlink, missing_ok=True)
                new.write(page)
            Path(new.name).replace(file)
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}.") from error
