"""`python -m qupersync_assets.serve.logged COMMAND`: a command of Dagster whose logs have the format of LOG_FORMAT, and
which takes less memory.

COMMAND is the path of a Python script, or -m and a module, with its arguments.
"""

import os
import runpy
import sys

from qupersync_assets.core.log_format import TEXT, configure_logs
from qupersync_assets.serve.late_alembic import import_late


def main() -> None:
    """Run the command in this process."""
    configure_logs(os.environ.get("LOG_FORMAT") or TEXT)
    import_late()
    del sys.argv[0]
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
