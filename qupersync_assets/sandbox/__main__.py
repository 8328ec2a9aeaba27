"""`python -m qupersync_assets.sandbox FOLDER`: run the sandbox alone until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from qupersync_assets.sandbox import Sandbox, SandboxError
from qupersync_assets.sandbox.rules.dialect import MODES


def main(arguments: list[str] | None = None) -> int:
    """Start the sandbox, fill it, print its environment as KEY=value lines, and add activity until a signal.

    Returns:
        The exit code: 0 after a signal, 1 with one sentence on stderr if the sandbox cannot run.
    """
    parser = argparse.ArgumentParser(prog="python -m qupersync_assets.sandbox", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder for the sandbox's state")
    parser.add_argument(
        "--every", type=float, default=5, metavar="SECONDS", help="interval of new activity (default 5)"
    )
    parser.add_argument("--queries", type=int, default=3000, help="queries in the initial history (default 3000)")
    parser.add_argument("--mode", choices=MODES, default="provisioned", help="kind of Redshift to simulate")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Sandbox(options.folder, options.mode) as sandbox:
            workload = sandbox.workload()
            workload.backfill(datetime.now(UTC), queries=options.queries)
            for name, value in sandbox.environment().items():
                print(f"{name}={value}", flush=True)
            pause = threading.Event()
            while not pause.wait(options.every):
                workload.advance(datetime.now(UTC))
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
