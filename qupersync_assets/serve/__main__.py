"""`python -m qupersync_assets.serve`: the command of `make up`."""

import sys

from qupersync_assets.serve.dagster_processes import main

sys.exit(main())
