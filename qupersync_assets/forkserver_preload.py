"""What a step needs, for the process that steps are forked from to import once: see `executors`."""

import contextlib
import gc
import os

import dagster_postgres
import psycopg2.extras
import redshift_connector
import upath
from pydantic import SecretStr

import qupersync_assets.definitions
from qupersync_assets.settings.alerts import check_alert_urls

__all__ = ["dagster_postgres", "psycopg2", "qupersync_assets", "redshift_connector", "upath"]

# Load Apprise's plugins if there are alerts: each step checks ALERT_URLS, and they take 0.2 s to load.
with contextlib.suppress(ValueError):
    check_alert_urls(SecretStr(os.environ.get("ALERT_URLS", "")))

# No step shall look through all of that for garbage, and so copy its memory:
# https://docs.python.org/3/library/gc.html#gc.freeze
gc.collect()
gc.freeze()
