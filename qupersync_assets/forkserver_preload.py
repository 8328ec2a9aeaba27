"""What a step needs, for the process that steps are forked from to import once: see `executors`."""

import gc

import dagster_postgres
import psycopg2.extras
import redshift_connector
import upath

import qupersync_assets.definitions

__all__ = ["dagster_postgres", "psycopg2", "qupersync_assets", "redshift_connector", "upath"]

# No step shall look through all of that for garbage, and so copy its memory:
# https://docs.python.org/3/library/gc.html#gc.freeze
gc.collect()
gc.freeze()
