"""Imports and builds what each step needs, once, in the process that steps are forked from: see `executors`.

A step inherits the definitions; building them takes about 0.1 s of processor time. Without valid settings
only the modules are imported, and the step reports what is wrong.
"""

import gc
from contextlib import suppress

import dagster_postgres
import psycopg2.extras
import redshift_connector
import upath

from qupersync_assets.definitions import build_code_location
from qupersync_assets.settings import Settings, SettingsError

__all__ = ["dagster_postgres", "psycopg2", "redshift_connector", "upath"]

with suppress(SettingsError):
    build_code_location(Settings.load()).get_repository_def().get_all_jobs()

# The garbage collector of a step shall not visit, and so copy, the inherited memory:
# https://docs.python.org/3/library/gc.html#gc.freeze
gc.collect()
gc.freeze()
