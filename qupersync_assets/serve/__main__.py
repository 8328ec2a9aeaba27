"""`python -m qupersync_assets.serve`: the process of `make up` and `qupersync up`."""

import sys

from qupersync_assets.serve.dagster_processes import main

sys.exit(main("--json" in sys.argv))
