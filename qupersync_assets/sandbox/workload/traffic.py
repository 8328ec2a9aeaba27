"""Statements and connections of the warehouse's users: sys_query_history and sys_connection_log."""

from __future__ import annotations

import hashlib
import random
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta

from qupersync_assets.sandbox.warehouse.catalog import LiveTable
from qupersync_assets.sandbox.warehouse.rows import Row

FINAL = ("success", "failed", "canceled")


@dataclass(frozen=True)
class Client:
    """A user, and the application name of its connections ('' for none)."""

    user_id: int
    user_name: str
    application: str


CLIENTS = [
    Client(1, "rdsdb", ""),
    Client(100, "etl_airflow", "airflow"),
    Client(101, "dbt_prod", "dbt"),
    Client(102, "bi_tableau", "Tableau 2024.2"),
    Client(103, "bi_looker", "Looker"),
    Client(104, "IAM:ana", "DBeaver 24.2.0 - SQLEditor <Script-1.sql>"),
    Client(105, "bartek", "psql"),
    Client(106, "IAMA:chloé", "DataGrip 2024.1 - Análise São Paulo"),
    Client(107, "reports", ""),
]

_IN_LIST = ", ".join(str(number * 37) for number in range(1200))  # longer than query_text

_DBT = '"app": "dbt", "dbt_version": "1.9.1", "profile_name": "shop", "target_name": "prod", "node_id": "model.shop.a"'

# query_type, template; {a} and {b} are tables; {n}, {word} and {day} are literals
_STATEMENTS = [
    ("SELECT", "SELECT status, count(*)\nFROM {a}\nWHERE created_at >= '{day}' AND country = '{word}'\nGROUP BY 1"),
    ("SELECT", "SELECT a.id, b.amount FROM {a} a JOIN {b} b ON a.id = b.id WHERE b.customer_id = {n}"),
    ("SELECT", "select sum(amount) as \"Umsatz €\" from {a} where note like '%{word}%' -- čtvrtletí, 四半期"),
    ("SELECT", "/* {word} */ SELECT TOP 500 * FROM {a} ORDER BY day DESC"),
    ("SELECT", "SELECT id FROM {a} WHERE id IN (" + _IN_LIST + ")"),
    ("SELECT", "-- open orders\r\nSELECT * FROM {a}\r\nWHERE id IN (\r\n\t{n},\r\n\t{n}1\r\n)"),
    ("CTAS", f"/* {{{{{_DBT}}}}} */\nCREATE TABLE dbt_{{n}} AS SELECT * FROM {{a}}"),
    ("INSERT", "INSERT INTO {a} SELECT * FROM {b} WHERE created_at > '{day}'"),
    ("UPDATE", "UPDATE {a} SET status = '{word}' WHERE id = {n}"),
    ("DELETE", "DELETE FROM {a} USING {b} b\n\tWHERE b.id = {n}"),
    ("CTAS", "CREATE TABLE tmp_{n} AS SELECT * FROM {a} WHERE day = '{day}'"),
    ("UNLOAD", "UNLOAD ('SELECT * FROM {a}') TO 's3://exports/{word}/' IAM_ROLE default PARQUET"),
    ("COPY", "COPY {a} FROM 's3://landing/{day}/' IAM_ROLE default FORMAT JSON 'auto'"),
    ("DDL", "ALTER TABLE {a} ADD COLUMN c{n} varchar(64)"),
    ("UTILITY", "ANALYZE {a} PREDICATE COLUMNS"),
    ("COMMAND", "SET query_group TO '{word}'"),
    ("OTHER", "FETCH FORWARD 1000 FROM cursor_{n}"),
]
_WORDS = ["new", "paid", "DE", "PL", "São Paulo", "O''Brien", "naïve", "100%", "東京"]
_ERRORS = [
    'relation "tmp_export" does not exist',
    "Division by zero",
    "1023: serializable isolation violation on table",
    "Query exceeded a monitoring rule: query_execution_time > 600",
]


def new_query(rng: random.Random, client: Client, database: str, tables: list[LiveTable], start: datetime) -> Row:
    """Build a row of sys_query_history for a statement that starts now and uses two of `tables`.

    The caller sets query_id, transaction_id and session_id.
    """
    kind, template = rng.choice(_STATEMENTS)
    first, second = rng.sample(tables, 2)
    return new_statement(rng, client, database, (kind, template), (first.qualified, second.qualified), start)


def new_statement(
    rng: random.Random,
    client: Client,
    database: str,
    pattern: tuple[str, str],
    tables: tuple[str, str],
    start: datetime,
) -> Row:
    """Build a row of sys_query_history for a statement of the given query_type and template, as new_query does."""
    kind, template = pattern
    first, second = tables
    literals = {"n": rng.randint(1, 10**7), "word": rng.choice(_WORDS), "day": f"{start:%Y-%m-%d}"}
    text = template.format(a=first, b=second, **literals)
    waiting = rng.random() < 0.2
    return {
        "user_id": client.user_id,
        "query_id": None,
        "query_label": rng.choice([None, "default", "dashboards"]),
        "transaction_id": None,
        "session_id": None,
        "database_name": database,
        "query_type": kind,
        "status": rng.choice(["planning", "queued"]) if waiting else rng.choice(["running", "returning"]),
        "result_cache_hit": False,
        "start_time": start,
        "end_time": None,
        "elapsed_time": 0,
        "queue_time": 0,
        "execution_time": 0,
        "error_message": None,
        "returned_rows": 0,
        "returned_bytes": 0,
        "query_text": _as_logged(text)[:4000],
        "redshift_version": "Redshift 1.0.73659",
        "usage_limit": None,
        "compute_type": "primary",
        "compile_time": 0,
        "planning_time": rng.randint(200, 90_000),
        "lock_wait_time": 0,
        "service_class_id": 100,
        "service_class_name": "Default queue",
        "query_priority": rng.choice(["normal", "normal", "high", "low"]),
        "short_query_accelerated": rng.choice([None, "true", "false"]),
        "user_query_hash": _hash(text),
        "generic_query_hash": _hash(template.format(a=first, b=second, n="?", word="?", day="?")),
        "query_hash_version": 1,
        "result_cache_query_id": 0,
        "username": client.user_name,
    }


def update_running(rng: random.Random, row: Row, now: datetime) -> None:
    """Update the row of a statement that still runs at `now`."""
    row["elapsed_time"] = microseconds(now - row["start_time"])
    row["execution_time"] = row["elapsed_time"] // 2 if row["status"] in ("running", "returning") else 0
    # Observed on Redshift: end_time may be set while the status is still running.
    row["end_time"] = now if rng.random() < 0.15 else None


def finish(rng: random.Random, row: Row, end: datetime, status: str = "", queued: float = 0.0) -> None:
    """Update the row of a statement that ends at `end`; `status` is random by default, `queued` a share of its time."""
    elapsed = max(1, microseconds(end - row["start_time"]))
    parts = [rng.random() * share for share in (0.03, 0.1, 0.05, 0.02)]
    queue, compiling, planning, waiting = (int(elapsed * part) for part in parts)
    queue = int(elapsed * queued) or queue
    row["status"] = status or rng.choices(FINAL, [93, 4, 3])[0]
    row |= {
        "end_time": row["start_time"] + timedelta(microseconds=elapsed),
        "elapsed_time": elapsed,
        "queue_time": queue,
        "compile_time": compiling,
        "planning_time": planning,
        "lock_wait_time": waiting,
        "execution_time": elapsed - queue - compiling - planning - waiting,
    }
    if row["status"] == "failed":
        row["error_message"] = rng.choice(_ERRORS)
    elif row["status"] == "canceled":
        row["error_message"] = "Query cancelled on user's request"
    elif row["query_type"] == "SELECT":
        row["result_cache_hit"] = not status and rng.random() < 0.15
        row["result_cache_query_id"] = row["query_id"] - 1 if row["result_cache_hit"] else 0
        row["returned_rows"] = int(rng.lognormvariate(5, 3))
        row["returned_bytes"] = row["returned_rows"] * rng.randint(20, 900)


def connection_row(rng: random.Random, client: Client, session: int, database: str, event: str, at: datetime) -> Row:
    """Build a row of sys_connection_log."""
    named = event in ("initiating session", "set application_name", "disconnecting session")
    return {
        "event": event,
        "record_time": at,
        "remote_host": "[local]" if client.user_id == 1 else f"::ffff:10.0.{client.user_id % 7}.{session % 250}",
        "remote_port": str(30_000 + session % 30_000),
        "session_id": session,
        "database_name": database,
        "user_name": client.user_name,
        "auth_method": "IAM AssumeUser" if client.user_name.startswith("IAM") else "password",
        "duration": rng.randint(10**6, 2 * 10**9) if event == "disconnecting session" else 0,
        "ssl_version": "TLSv1.3",
        "ssl_cipher": "ECDHE-RSA-AES256-GCM-SHA384",
        "mtu": 0,
        "ssl_compression": "",
        "ssl_expansion": "",
        "iam_auth_guid": "",
        "application_name": client.application if named else "",
        "driver_version": "",
        "os_version": "",
        "plugin_name": "",
        "protocol_version": 2,
        "global_session_id": hashlib.sha256(f"{session}".encode()).hexdigest()[:36],
    }


def microseconds(duration: timedelta) -> int:
    """Return `duration` in whole microseconds."""
    return duration // timedelta(microseconds=1)


def _as_logged(text: str) -> str:
    """Return a statement as Redshift logs it: it spells line breaks and tabs as a backslash and a letter."""
    return text.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")


def _hash(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()
