"""Who may see what in the sandbox's warehouse: roles, own rows only, and the catalog as a client finds it."""

from __future__ import annotations

from typing import Any

from psycopg2 import sql

from qupersync_assets.views import ViewFacts

READER = "qupersync_reader"
ORDINARY = "qupersync_ordinary"
SCHEMA = "redshift"
# In front of the search path of both roles. The tables behind its views stay as the workload made them.
CATALOG = "redshift_catalog"

USER_IDS = {READER: 108, ORDINARY: 109}
_SUPERUSERS = {"rdsdb": 1}
_CATALOG_RELATIONS = ("pg_class", "pg_namespace", "pg_attribute", "pg_user")

_REFUSE = """
CREATE OR REPLACE FUNCTION redshift.refuse(sqlstate_ text, message_ text) RETURNS text LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = sqlstate_, MESSAGE = message_; END $$
"""

# Which relations there are depends on what the gateway plays; the gateway says so in the start-up packet.
_SYSTEM_RELATIONS = """
CREATE OR REPLACE VIEW redshift_catalog.system_relations AS
SELECT c.oid, c.relname
FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'redshift'::regnamespace AND c.relkind IN ('r', 'v')
    AND c.relname ~ '^(stl|stv|svl|svv|svcs|sys|pg)_'
    AND (current_setting('redshift.lists_absent', true) = 'on'
        OR c.relname <> ALL (CASE current_setting('redshift.mode', true)
            WHEN 'serverless' THEN {not_serverless}::name[] ELSE {not_provisioned}::name[] END));

CREATE OR REPLACE VIEW redshift_catalog.pg_namespace AS
SELECT oid, nspname FROM redshift.pg_namespace
UNION ALL
SELECT 11, 'pg_catalog' WHERE NOT EXISTS (SELECT FROM redshift.pg_namespace WHERE oid = 11);

CREATE OR REPLACE VIEW redshift_catalog.pg_class AS
SELECT oid, relname, relnamespace, relkind FROM redshift.pg_class
UNION ALL
SELECT oid, relname, 11, 'v' FROM redshift_catalog.system_relations;

CREATE OR REPLACE VIEW redshift_catalog.pg_attribute AS
SELECT {columns} FROM redshift.pg_attribute
UNION ALL
SELECT {values} FROM pg_catalog.pg_attribute a JOIN redshift_catalog.system_relations r ON r.oid = a.attrelid
WHERE a.attnum > 0 AND NOT a.attisdropped
"""
# The columns of pg_attribute in which PostgreSQL agrees with Redshift.
_SHARED_ATTRIBUTES = {
    "attrelid", "attname", "atttypid", "attlen", "attnum", "atttypmod", "attnotnull", "attisdropped",
}  # fmt: skip

_USERS = """
CREATE OR REPLACE VIEW redshift.pg_user AS
SELECT name::name AS usename, id::integer AS usesysid, super AS usecreatedb, super AS usesuper,
    super AS usecatupd
FROM (VALUES {users}) AS users (name, id, super);

CREATE OR REPLACE VIEW redshift.svv_user_grants AS
SELECT {reader_id}::integer AS user_id, {reader}::varchar(128) AS user_name, 7001::integer AS role_id,
    'sys:monitor'::varchar(128) AS role_name, false AS admin_option
"""


def create_access(cursor: Any, database: str, views: dict[str, ViewFacts], users: dict[str, int]) -> None:
    """Create or renew what both roles need in `database`, which has its relations; `users` have a name and an
    id beside the two."""
    _create_catalog(cursor, views)
    everyone = {**_SUPERUSERS, **users, **USER_IDS}
    cursor.execute(_REFUSE)
    rows = [sql.Literal((name, user_id, name in _SUPERUSERS)) for name, user_id in everyone.items()]
    reader = {"reader": sql.Literal(READER), "reader_id": sql.Literal(USER_IDS[READER])}
    cursor.execute(sql.SQL(_USERS).format(users=sql.SQL(", ").join(rows), **reader))
    for role in (READER, ORDINARY):
        cursor.execute(
            sql.SQL(
                "ALTER ROLE {role} IN DATABASE {database} SET search_path = {catalog}, {schema}, pg_catalog;"
                "GRANT USAGE ON SCHEMA {catalog}, {schema} TO {role};"
                "GRANT SELECT ON ALL TABLES IN SCHEMA {catalog} TO {role}"
            ).format(
                role=sql.Identifier(role),
                database=sql.Identifier(database),
                catalog=sql.Identifier(CATALOG),
                schema=sql.Identifier(SCHEMA),
            )
        )
    cursor.execute(
        sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(
            sql.Identifier(SCHEMA), sql.Identifier(READER)
        )
    )
    for view, facts in views.items():
        if facts["visibility"] == "own":
            _show_own_rows(cursor, view, facts)
    for relation in (
        *_CATALOG_RELATIONS,
        "svv_user_grants",
        *(view for view, facts in views.items() if facts["visibility"] != "superuser"),
    ):
        cursor.execute(
            sql.SQL("GRANT SELECT ON {} TO {}").format(
                sql.Identifier(SCHEMA, relation), sql.Identifier(ORDINARY)
            )
        )


def _create_catalog(cursor: Any, views: dict[str, ViewFacts]) -> None:
    cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(CATALOG)))
    columns = [(name, type_name) for name, type_name in views["pg_attribute"]["columns"]]
    values = [
        sql.SQL("a.{}").format(sql.Identifier(name))
        if name in _SHARED_ATTRIBUTES
        else sql.SQL("NULL::{}").format(sql.SQL(type_name))
        for name, type_name in columns
    ]
    cursor.execute(
        sql.SQL(_SYSTEM_RELATIONS).format(
            not_serverless=sql.Literal([view for view, facts in views.items() if not facts["serverless"]]),
            not_provisioned=sql.Literal([view for view, facts in views.items() if not facts["provisioned"]]),
            columns=sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns),
            values=sql.SQL(", ").join(values),
        )
    )


def _show_own_rows(cursor: Any, view: str, facts: ViewFacts) -> None:
    columns = [name for name, _ in facts["columns"]]
    own = next(name for name in ("userid", "user_id", "user_name") if name in columns)
    value: str | int = ORDINARY if own == "user_name" else USER_IDS[ORDINARY]
    # The reader's condition is constant and costs nothing; the owner's sessions are not filtered at all.
    cursor.execute(
        sql.SQL(
            "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;"
            "DROP POLICY IF EXISTS everything ON {table}; DROP POLICY IF EXISTS own ON {table};"
            "CREATE POLICY everything ON {table} FOR SELECT TO {reader} USING (true);"
            "CREATE POLICY own ON {table} FOR SELECT TO {ordinary} USING (btrim({column}::text) = {value})"
        ).format(
            table=sql.Identifier(SCHEMA, view),
            reader=sql.Identifier(READER),
            ordinary=sql.Identifier(ORDINARY),
            column=sql.Identifier(own),
            value=sql.Literal(str(value)),
        )
    )
