"""`python -m qupersync_assets.serve.webserver`: dagster-webserver with its options, behind `request_guard`."""

import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from dagster_webserver.cli import main as dagster_webserver
from starlette.types import ASGIApp

from qupersync_assets.serve.request_guard import guard
from qupersync_assets.settings import SettingsError
from qupersync_assets.settings.ui import UiProcessSettings

NAME = "dagster-webserver"


def main(add_pages: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> None:
    """Run dagster-webserver with the options of the command line; with UI_READ_ONLY it changes nothing.

    Dagster has no option for middleware: it passes its application to uvicorn.run, and so do we. `add_pages` returns
    an application with further pages, which the guard protects, too.
    """
    try:
        ui = UiProcessSettings.load()
    except SettingsError as error:
        sys.exit(str(error))
    run = uvicorn.run

    def run_guarded(app: ASGIApp, **options: Any) -> None:
        run(guard(add_pages(app), ui), **options)

    uvicorn.run = run_guarded  # type: ignore[assignment]
    sys.argv = [NAME, *sys.argv[1:], *(["--read-only"] if ui.ui_read_only else [])]
    dagster_webserver()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
