"""`python -m qupersync_assets.serve`: what `make up` runs."""

import sys

from qupersync_assets.serve.dagster_processes import main

sys.exit(main())
