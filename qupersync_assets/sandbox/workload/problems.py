"""The problems of the demo's warehouse: at least one of every kind that `qupersync health` looks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from psycopg2 import sql

from qupersync_assets.sandbox.warehouse.catalog import NODE_CAPACITY
from qupersync_assets.sandbox.warehouse.rows import Row
from qupersync_assets.sandbox.workload.effects import Effects

# No statement reads the tables of this schema.
UNUSED_SCHEMA = "archive"

# Changed columns of svv_table_info, by table.
TABLES: dict[str, Row] = {
    "public.events": dict.fromkeys(
        ("sortkey1", "sortkey1_enc", "unsorted", "vacuum_sort_benefit", "skew_sortkey1"), None
    )
    | {"sortkey_num": 0},
    "marketing.sessions": {"skew_rows": 7.4},
    "finance.ledger": {"unsorted": 37.5, "vacuum_sort_benefit": 24.1},
    "finance.payments": {"sortkey1": "INTERLEAVED"},
    "sales.refunds": {"diststyle": "EVEN"},
    "finance.fx_rates": {"sortkey1": "day"},
    "public.audit_log": {"diststyle": "KEY(created_at)", "tbl_rows": 21_000_000, "estimated_visible_rows": 15_400_000},
    "sales.order_items": {"stats_off": 48.5},
    "finance.invoices": {"sortkey1_enc": "az64"},
    "archive.orders_2019": {"create_time": datetime(2019, 12, 31, 23)},
}

# Changed columns of pg_attribute, by table and column; 0 is an encoding without compression, 12 is az64.
COLUMNS: dict[tuple[str, str], Row] = {
    ("finance.payments", "customer_id"): {"attsortkeyord": -2},
    ("finance.fx_rates", "day"): {"attsortkeyord": 1},
    ("public.audit_log", "created_at"): {"attisdistkey": True},
    ("finance.invoices", "day"): {"attencodingtype": 12},
    ("marketing.impressions", "user"): {"attencodingtype": 0},
    ("marketing.impressions", "order_id"): {"attencodingtype": 0},
}

# Configuration, and decisions of Redshift.
_STATEMENTS = [
    "UPDATE redshift.svv_mv_info SET is_stale = 't', autorefresh = 't' WHERE name = 'mv_open_invoices'",
    "UPDATE redshift.stv_wlm_service_class_config SET query_priority = 'Normal' WHERE service_class = 101",
    "DELETE FROM redshift.stv_wlm_qmr_config WHERE rule_name IN ('too_long', 'spills')",
    "UPDATE redshift.svv_alter_table_recommendations SET auto_eligible = 'f'",
    """INSERT INTO redshift.sys_auto_table_optimization (transaction_id, table_id, alter_table_type, status, event_time)
    SELECT 9000000 + table_id::bigint, table_id, kind, 'Failed', %s - interval '1 hour'
    FROM redshift.svv_table_info JOIN (VALUES ('refunds', 'distkey'), ('leads', 'sortkey'), ('users', 'encode'))
        AS failed (name, kind) ON name = "table" """,
]

# The share of its space that each node has used.
NODES = {0: 0.56, 1: 0.81, 2: 0.34}

# Every vacuum of it fails.
UNVACUUMED = "public.audit_log"

# A text in the statements of these scenes.
SLOWER, NEW = "Revenue by store", "v_revenue_net"


@dataclass(frozen=True)
class Scene:
    """Statements of one pattern that are a problem together.

    Attributes:
        user: a user of CLIENTS.
        kind: query_type.
        text: the statement, with {a} for the table and {n} for a number.
        table: its table.
        began: hours from its first statement to now.
        hours: hours from its first to its last statement.
        count: its statements.
        seconds: their elapsed time.
        queued: the share of it in the queue.
        columns: further columns of sys_query_history.
        effects: what its statements do.
    """

    user: str
    kind: str
    text: str
    table: str
    began: float
    hours: float
    count: int
    seconds: float
    queued: float = 0.0
    columns: Mapping[str, Any] = field(default_factory=dict)
    effects: Effects = field(default_factory=Effects)

    def starts(self, now: datetime) -> list[datetime]:
        """Return the start of each statement; those of a scene of less than one hour are in the same hour."""
        first = now - timedelta(hours=self.began)
        if self.hours < 1:
            first = first.replace(minute=2, second=0, microsecond=0)
        return [first + timedelta(hours=self.hours) * number / self.count for number in range(self.count)]


_BUSY = {"service_class_id": 101, "service_class_name": "dashboards"}
SCENES = [
    # Usage of one hour; files that are not compressed could be split.
    Scene(
        "etl_airflow",
        "COPY",
        "COPY {a} FROM 's3://landing/p/{n}' FORMAT JSON 'auto' GZIP",
        "staging.orders_raw",
        3,
        0.9,
        130,
        2,
    ),
    Scene(
        "reports",
        "INSERT",
        "INSERT INTO {a} VALUES ({n}, 1.5, 'x')",
        "staging.Dépôt",
        5,
        0.9,
        140,
        0.3,
        effects=Effects(inserted=4),
    ),
    Scene(
        "bi_tableau",
        "SELECT",
        "SELECT country, count(*) FROM {a} WHERE id > {n} GROUP BY 1",
        "sales.orders",
        6,
        0.9,
        90,
        35,
        0.45,
        _BUSY,
    ),
    Scene(
        "bi_looker",
        "SELECT",
        "SELECT customer_id, count(DISTINCT payload) FROM {a} WHERE id > {n} GROUP BY 1",
        "marketing.sessions",
        8,
        0.9,
        115,
        18,
        effects=Effects(spilled_mb=2_400),
    ),
    Scene(
        "dbt_prod",
        "SELECT",
        "SELECT day, sum(amount) FROM {a} WHERE id > {n} GROUP BY 1",
        "finance.ledger",
        10,
        0.9,
        20,
        55,
        columns={"compute_type": "primary-scale"},
    ),
    # The longest statements.
    Scene(
        "IAM:ana",
        "SELECT",
        "SELECT * FROM {a} x, {a} y WHERE x.id < y.id AND x.id > {n}",
        "public.audit_log",
        70,
        48,
        3,
        2_400,
        effects=Effects(alert="Nested Loop", spilled_mb=1_300_000),
    ),
    Scene(
        "dbt_prod",
        "SELECT",
        "SELECT status, avg(amount) FROM {a} WHERE id > {n} GROUP BY 1",
        "sales.order_items",
        90,
        72,
        4,
        1_100,
        effects=Effects(alert="Missing query planner statistics"),
    ),
    Scene(
        "bi_tableau",
        "SELECT",
        "SELECT i.*, c.name FROM {a} i JOIN crm c USING (id) WHERE i.id > {n}",
        "marketing.impressions",
        100,
        80,
        4,
        1_500,
        effects=Effects(alert="Distributed a large number"),
    ),
    Scene(
        "bi_looker",
        "SELECT",
        "SELECT * FROM {a} WHERE user = 'u{n}'",
        "marketing.clicks",
        80,
        60,
        4,
        900,
        effects=Effects(alert="Very selective query filter"),
    ),
    # Trends.
    Scene(
        "bi_looker",
        "SELECT",
        f"SELECT status, sum(amount) FROM {{a}} WHERE id > {{n}} GROUP BY 1 -- {SLOWER}",
        "sales.orders",
        160,
        155,
        60,
        26,
    ),
    Scene(
        "reports",
        "SELECT",
        f"SELECT net FROM {NEW} WHERE day = {{n}}",
        "reporting.daily_sales",
        18,
        16,
        14,
        0.2,
        columns={"status": "failed", "error_message": f'relation "{NEW}" does not exist'},
    ),
    Scene(
        "etl_airflow",
        "COPY",
        "COPY {a} FROM 's3://landing/fx/{n}' FORMAT CSV",
        "finance.fx_rates",
        30,
        26,
        8,
        1,
        columns={"status": "failed", "error_message": "Load into table 'fx_rates' failed. Check stl_load_errors."},
    ),
]


def change_catalog(cursor: Any, now: datetime) -> None:
    """Change the rows of tables, columns, nodes and configuration."""
    for statement in _STATEMENTS:
        cursor.execute(statement, [now] * statement.count("%s"))
    for qualified, changes in TABLES.items():
        condition = "schema || '.' || \"table\" = %s"
        cursor.execute(_update("svv_table_info", changes, condition), [*changes.values(), qualified])
    for (qualified, column), changes in COLUMNS.items():
        condition = """attname = %s AND attrelid IN (
            SELECT table_id FROM redshift.svv_table_info WHERE schema || '.' || "table" = %s)"""
        cursor.execute(_update("pg_attribute", changes, condition), [*changes.values(), column, qualified])
    for node, used in NODES.items():
        changes = {"used": int(used * NODE_CAPACITY)}
        cursor.execute(_update("stv_node_storage_capacity", changes, "node = %s"), [*changes.values(), node])


def _update(view: str, changes: Row, condition: str) -> sql.Composable:
    assignments = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in changes)
    return sql.SQL("UPDATE redshift.{} SET {} WHERE ").format(sql.Identifier(view), assignments) + sql.SQL(condition)
