"""What a sync job is, as plain data; job files and readers of specs import it from here.

The SQLAlchemy table of a spec is the single source of truth: DDL, coercion, select lists, merge statements
and the column schema in Dagster are all derived from it. Nothing here connects or imports Dagster.
"""

from qupersync_assets.spec.daily_history import DailyHistory, daily_history
from qupersync_assets.spec.query_ids import sys_query_ids
from qupersync_assets.spec.select_statement import read_since, select_statement, timestamp_literal
from qupersync_assets.spec.source_variant import Variant, source_expression
from qupersync_assets.spec.sync_spec import SyncSpec
from qupersync_assets.spec.target_table import (
    CLUSTER_COMMENT,
    METADATA,
    SCHEMA,
    UTC_TIME,
    ColumnType,
    Merge,
    Sensitive,
    column,
    filled_after_load,
    generated_column,
    quper_table,
)
from qupersync_assets.spec.unfinished import UNKNOWN, may_change, status_expression, unfinished
from qupersync_assets.spec.view import View
from qupersync_assets.spec.window import FULL_READ, RETENTION, ReadMode, Window

__all__ = [
    "CLUSTER_COMMENT",
    "FULL_READ",
    "METADATA",
    "RETENTION",
    "SCHEMA",
    "UNKNOWN",
    "UTC_TIME",
    "ColumnType",
    "DailyHistory",
    "Merge",
    "ReadMode",
    "Sensitive",
    "SyncSpec",
    "Variant",
    "View",
    "Window",
    "column",
    "daily_history",
    "filled_after_load",
    "generated_column",
    "may_change",
    "quper_table",
    "read_since",
    "select_statement",
    "source_expression",
    "status_expression",
    "sys_query_ids",
    "timestamp_literal",
    "unfinished",
]
