"""The simulated user tables of the warehouse, as rows of its catalog views."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from qupersync_assets.sandbox.warehouse.rows import Row

FIRST_TABLE_ID = 108_400
NODES = 3
NODE_CAPACITY = 90_000  # MB
_NAMESPACES = {"pg_catalog": 11, "information_schema": 12_100}

# name: data type, compression (an argument of format_encoding)
_COLUMNS = {
    "id": ("bigint", 12),
    "customer_id": ("bigint", 12),
    "order_id": ("bigint", 12),
    "quantity": ("integer", 12),
    "amount": ("numeric(12,2)", 12),
    "rate": ("double precision", 0),
    "day": ("date", 12),
    "created_at": ("timestamp without time zone", 12),
    "updated_at": ("timestamp without time zone", 12),
    "status": ("character varying(32)", 4),
    "country": ("character(2)", 1),
    "email": ("character varying(256)", 11),
    "note": ("character varying(4000)", 4),
    "payload": ("character varying(65535)", 11),
    "is_active": ("boolean", 0),
    "größe": ("numeric(38,6)", 12),
    "user": ("character varying(64)", 8),
}

# schema.table, distribution, sort key columns, rows, columns
_TABLES = """
sales.orders|KEY(customer_id)|created_at|48000000|id customer_id created_at updated_at status amount country
sales.order_items|KEY(order_id)|order_id,created_at|210000000|id order_id created_at quantity amount status
sales.customers|ALL|AUTO(SORTKEY(id))|1900000|id email country created_at is_active note
sales.refunds|AUTO(EVEN)||310000|id order_id amount created_at note
sales.stores|AUTO(ALL)||420|id country status note
sales.promotions|AUTO(ALL)|AUTO(SORTKEY)|1300|id day rate status
marketing.clicks|AUTO(EVEN)|AUTO(SORTKEY(created_at))|640000000|id user created_at country payload
marketing.impressions|EVEN|created_at|1200000000|id user created_at country order_id
marketing.campaigns|ALL||860|id user status day note
marketing.sessions|KEY(customer_id)|created_at|87000000|id customer_id created_at updated_at country payload
marketing.leads|AUTO(KEY(customer_id))||240000|id customer_id email created_at note
finance.invoices|KEY(customer_id)|day|9400000|id customer_id day amount status
finance.payments|KEY(customer_id)|day,customer_id|9100000|id customer_id day amount status
finance.ledger|EVEN|day|33000000|id day amount note updated_at
finance.fx_rates|ALL|AUTO(SORTKEY(day))|51000|day country rate
staging.orders_raw|AUTO(EVEN)||2600000|payload created_at
staging.clicks_raw|AUTO(EVEN)|AUTO(SORTKEY)|7100000|payload created_at
staging.events 2024|AUTO(EVEN)|AUTO(SORTKEY(created_at))|550000|id created_at payload
staging.Dépôt|AUTO(ALL)||12000|id größe note
reporting.daily_sales|AUTO(ALL)|AUTO(SORTKEY(day))|73000|day country quantity amount
reporting.funnel|AUTO(EVEN)|AUTO(SORTKEY(day))|410000|day country quantity rate
reporting.cohorts|ALL|AUTO(SORTKEY(day))|8800|day customer_id quantity
public.users|AUTO(KEY(id))|AUTO(SORTKEY(id))|1700000|id user email country is_active created_at
public.events|AUTO(KEY(customer_id))|AUTO(SORTKEY(created_at))|95000000|id customer_id created_at payload
public.audit_log|EVEN|created_at|16000000|id user created_at note
public.order|AUTO(ALL)||73|id status
archive.orders_2019|EVEN|created_at|22000000|id customer_id created_at updated_at status amount
"""

# data type: OID, storage length, alignment; columns of svv_columns
_TYPES: dict[str, tuple[int, int, str, Row]] = {
    "bigint": (20, 8, "d", {"numeric_precision": 64, "numeric_precision_radix": 2, "numeric_scale": 0}),
    "integer": (23, 4, "i", {"numeric_precision": 32, "numeric_precision_radix": 2, "numeric_scale": 0}),
    "double precision": (701, 8, "d", {"numeric_precision": 53, "numeric_precision_radix": 2}),
    "numeric": (1700, -1, "i", {"numeric_precision_radix": 10}),
    "date": (1082, 4, "i", {}),
    "timestamp without time zone": (1114, 8, "d", {"datetime_precision": 6}),
    "boolean": (16, 1, "c", {}),
    "character": (1042, -1, "i", {}),
    "character varying": (1043, -1, "i", {}),
}


_TYPE_FACTS = [
    "character_maximum_length",
    "numeric_precision",
    "numeric_precision_radix",
    "numeric_scale",
    "datetime_precision",
]


@dataclass(frozen=True)
class Table:
    """A user table at its creation."""

    table_id: int
    schema: str
    name: str
    diststyle: str
    sort_columns: list[str]
    rows: int
    columns: list[str]

    @property
    def sortkey(self) -> str:
        """The first sort key column, '' for none."""
        return self.sort_columns[0] if self.sort_columns else ""


def qualified_name(schema: str, name: str) -> str:
    """Return the qualified name of a table, quoted for SQL."""
    return f"{schema}.{name}" if name.isidentifier() else f'{schema}."{name}"'


@dataclass(frozen=True)
class LiveTable:
    """A user table as svv_table_info lists it now."""

    table_id: int
    schema: str
    name: str
    rows: int

    @property
    def qualified(self) -> str:
        """The qualified name, quoted for SQL."""
        return qualified_name(self.schema, self.name)


def sample_tables() -> list[Table]:
    """Return the user tables of a new warehouse."""
    tables = []
    for number, line in enumerate(_TABLES.strip().splitlines()):
        qualified, diststyle, sort_keys, rows, columns = line.split("|")
        schema, name = qualified.split(".")
        keys = [key for key in sort_keys.split(",") if key]
        table_id = FIRST_TABLE_ID + 14 * number
        tables.append(Table(table_id, schema, name, diststyle, keys, int(rows), columns.split()))
    return tables


def table_info(rng: random.Random, table: Table, database: str, now: datetime) -> Row:
    """Build the row of svv_table_info for a table with about `table.rows` rows."""
    visible = max(1, int(table.rows * rng.uniform(0.9, 1.1)))
    deleted = int(visible * rng.choice([0, 0, 0.002, 0.04]))
    size = max(len(table.columns) * 2, visible * len(table.columns) // 90_000)
    widths = [_length(_COLUMNS[column][0]) for column in table.columns if "varying" in _COLUMNS[column][0]]
    sorted_by = bool(table.sortkey)
    return {
        "database": database,
        "schema": table.schema,
        "table_id": table.table_id,
        "table": table.name,
        "encoded": rng.choice(["Y, AUTO(ENCODE)", "Y"]),
        "diststyle": table.diststyle,
        "sortkey1": table.sortkey or None,
        "max_varchar": max(widths, default=0),
        "sortkey1_enc": "none" if sorted_by else None,
        "sortkey_num": len(table.sort_columns),
        "size": size,
        "pct_used": round(100 * size / NODE_CAPACITY / NODES, 4),
        "empty": 0,
        "unsorted": round(rng.uniform(0, 6), 2) if sorted_by else None,
        "stats_off": round(rng.choice([0, 0, rng.uniform(0, 6)]), 2),
        "tbl_rows": visible + deleted,
        "skew_sortkey1": round(rng.uniform(1, 9), 2) if sorted_by else None,
        "skew_rows": None if "ALL" in table.diststyle else round(rng.uniform(1, 2), 2),
        "estimated_visible_rows": visible,
        "risk_event": f"1|{rng.randint(10**6, 10**7)}|{now:%Y-%m-%d %H:%M:%S}" if rng.random() < 0.1 else None,
        "vacuum_sort_benefit": round(rng.uniform(0, 4), 2) if sorted_by else None,
        "create_time": now - timedelta(days=rng.randint(60, 900), seconds=rng.randint(0, 86_400)),
    }


def catalog_rows(database: str) -> dict[str, list[Row]]:
    """Build the rows of pg_namespace, pg_class, pg_attribute and svv_columns for the user tables.

    A system table, system and dropped columns, and a late-binding view are included, as in a real catalog.
    """
    tables = sample_tables()
    namespaces = dict(_NAMESPACES)
    for table in tables:
        namespaces.setdefault(table.schema, 2200 if table.schema == "public" else 100_000 + len(namespaces))
    system = Table(1247, "pg_catalog", "pg_type", "EVEN", [], 400, ["id", "status"])
    classes, attributes, columns = [], [], []
    for table in [system, *tables]:
        classes.append(
            {"oid": table.table_id, "relname": table.name, "relnamespace": namespaces[table.schema], "relkind": "r"}
        )
        attributes.append(_attribute(table, "xmin", -3, "integer", 0))
        dropped = 2 if table.name.startswith("order") else 0
        for number, name in enumerate(table.columns, 1):
            type_name, encoding = _COLUMNS[name]
            encoding = 0 if name == table.sortkey else encoding  # as AWS recommends
            position = number + (1 if dropped and number >= dropped else 0)
            attributes.append(_attribute(table, name, position, type_name, encoding))
            columns.append(_svv_column(database, table.schema, table.name, name, position, type_name))
        if dropped:
            attribute = _attribute(table, f"........pg.dropped.{dropped}........", dropped, "integer", 0)
            attributes.append({**attribute, "attisdropped": True, "atttypid": 0})
    for number, name in enumerate(["day", "amount"], 1):
        columns.append(_svv_column(database, "reporting", "v_revenue", name, number, _COLUMNS[name][0]))
    return {
        "pg_namespace": [{"oid": oid, "nspname": name} for name, oid in namespaces.items()],
        "pg_class": classes,
        "pg_attribute": attributes,
        "svv_columns": columns,
    }


def _attribute(table: Table, name: str, number: int, type_name: str, encoding: int) -> Row:
    oid, length, align, _ = _TYPES[_base(type_name)]
    return {
        "attrelid": table.table_id,
        "attname": name,
        "atttypid": oid,
        "attstattarget": -1,
        "attlen": length,
        "attnum": number,
        "attndims": 0,
        "attcacheoff": -1,
        "atttypmod": _typmod(type_name),
        "attbyval": length > 0,
        "attstorage": "p" if length > 0 else "x",
        "attalign": align,
        "attnotnull": name in ("id", "day"),
        "atthasdef": False,
        "attisdropped": False,
        "attislocal": True,
        "attinhcount": 0,
        "attencodingtype": encoding,
        "attisdistkey": f"KEY({name})" in table.diststyle,
        "attsortkeyord": table.sort_columns.index(name) + 1 if name in table.sort_columns else 0,
    }


def _svv_column(database: str, schema: str, table: str, name: str, position: int, type_name: str) -> Row:
    base = _base(type_name)
    facts: Row = dict.fromkeys(_TYPE_FACTS)
    facts |= _TYPES[base][3]
    if base == "numeric":
        facts["numeric_precision"], facts["numeric_scale"] = _modifiers(type_name)
    elif base.startswith("character"):
        facts["character_maximum_length"] = _length(type_name)
    return {
        "table_catalog": database,
        "table_schema": schema,
        "table_name": table,
        "column_name": name,
        "ordinal_position": position,
        "column_default": "'new'::character varying" if name == "status" else None,
        "is_nullable": "NO" if name in ("id", "day") else "YES",
        "data_type": base,
        **facts,
        "remarks": "customer's e-mail address" if name == "email" else None,
    }


def _base(type_name: str) -> str:
    return type_name.partition("(")[0]


def _modifiers(type_name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", type_name)]


def _length(type_name: str) -> int:
    return _modifiers(type_name)[0]


def _typmod(type_name: str) -> int:
    match _modifiers(type_name):
        case [length]:
            return length + 4
        case [precision, scale]:
            return (precision << 16 | scale) + 4
    return -1
