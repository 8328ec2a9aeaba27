"""Access control of the sandbox's warehouse: users, and the views and rows that they may read."""

from __future__ import annotations

from typing import Any, Literal, TypedDict, Unpack

from psycopg2 import sql

from qupersync_assets.spec.redshift_views import ViewFacts

READER = "qupersync_reader"
ORDINARY = "qupersync_ordinary"
SCHEMA = "redshift"
# First in the search path of all users. Its views read the tables that the workload writes.
CATALOG = "redshift_catalog"
USER_IDS = {READER: 108, ORDINARY: 109}
# The PostgreSQL role that may read all views; Redshift superusers are its members.
_SUPERUSERS = "qupersync_superusers"
_PUBLIC_RELATIONS = ("pg_class", "pg_namespace", "pg_attribute", "pg_user", "svv_user_info", "svv_user_grants")


class Access(TypedDict, total=False):
    """The access of a user.

    Attributes:
        superuser: may read all views and rows.
        syslog: SYSLOG ACCESS; UNRESTRICTED shows all rows of the views that the user may read.
        roles: the granted roles; sys:monitor shows all rows as well.
    """

    superuser: bool
    syslog: Literal["RESTRICTED", "UNRESTRICTED"]
    roles: list[str]


_REFUSE = """
CREATE OR REPLACE FUNCTION redshift.refuse(sqlstate_ text, message_ text) RETURNS text LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = sqlstate_, MESSAGE = message_; END $$;
CREATE OR REPLACE FUNCTION redshift.check_cursor(size_ bigint, limit_ bigint) RETURNS boolean LANGUAGE plpgsql
    AS $$ BEGIN
        IF size_ > limit_ THEN
            RAISE EXCEPTION USING ERRCODE = 'XX000', MESSAGE = format(
                'exceeded the maximum size allowed for the total set of cursor data: %sMB.', limit_ / 1048576.0);
        END IF;
        RETURN true;
    END $$;
"""

# The relations depend on the gateway's mode, which the gateway adds to the start-up packet.
_SYSTEM_RELATIONS = """
CREATE OR REPLACE VIEW redshift_catalog.system_relations AS
SELECT c.oid, c.relname, 11::oid AS relnamespace
FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'redshift'::regnamespace AND c.relkind IN ('r', 'v')
    AND c.relname ~ '^(stl|stv|svl|svv|svcs|sys|pg)_'
    AND (current_setting('redshift.lists_absent', true) = 'on'
        OR c.relname <> ALL (CASE current_setting('redshift.mode', true)
            WHEN 'serverless' THEN {not_serverless}::name[] ELSE {not_provisioned}::name[] END))
UNION ALL -- the view that an administrator may create in any schema
SELECT c.oid, c.relname, c.relnamespace FROM pg_catalog.pg_class c
WHERE c.relnamespace <> 'redshift'::regnamespace AND c.relname = 'svl_user_activity';

CREATE OR REPLACE VIEW redshift_catalog.pg_namespace AS
SELECT oid, nspname FROM redshift.pg_namespace
UNION ALL
SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace n
WHERE n.oid IN (SELECT relnamespace FROM redshift_catalog.system_relations)
    AND n.oid NOT IN (SELECT oid FROM redshift.pg_namespace);

CREATE OR REPLACE VIEW redshift_catalog.pg_class AS
SELECT oid, relname, relnamespace, relkind FROM redshift.pg_class
UNION ALL
SELECT oid, relname, relnamespace, 'v' FROM redshift_catalog.system_relations;

CREATE OR REPLACE VIEW redshift_catalog.pg_attribute AS
SELECT {columns} FROM redshift.pg_attribute
UNION ALL
SELECT {values} FROM pg_catalog.pg_attribute a JOIN redshift_catalog.system_relations r ON r.oid = a.attrelid
WHERE a.attnum > 0 AND NOT a.attisdropped
"""
# The columns of pg_attribute that PostgreSQL shares with Redshift.
_SHARED_ATTRIBUTES = {
    "attrelid", "attname", "atttypid", "attlen", "attnum", "atttypmod", "attnotnull", "attisdropped",
}  # fmt: skip

# Users have no USAGE on this schema: views show its content. Row policies read `me`, which needs only SELECT.
_FACTS = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'qupersync_superusers') THEN
        CREATE ROLE qupersync_superusers;
    END IF;
END $$;
CREATE SCHEMA IF NOT EXISTS redshift_facts;
CREATE TABLE IF NOT EXISTS redshift_facts.users (
    user_id integer PRIMARY KEY,
    user_name text NOT NULL UNIQUE,
    superuser boolean NOT NULL DEFAULT false,
    syslog_access text NOT NULL DEFAULT 'RESTRICTED' CHECK (syslog_access IN ('RESTRICTED', 'UNRESTRICTED')),
    roles text[] NOT NULL DEFAULT '{}'
);
CREATE TABLE IF NOT EXISTS redshift_facts.roles (
    role_id integer GENERATED ALWAYS AS IDENTITY (START WITH 7001) PRIMARY KEY,
    role_name text NOT NULL UNIQUE
);
INSERT INTO redshift_facts.roles (role_name)
VALUES ('sys:monitor'), ('sys:operator'), ('sys:dba'), ('sys:secadmin'), ('sys:superuser')
ON CONFLICT DO NOTHING;

CREATE OR REPLACE VIEW redshift_facts.me AS
SELECT user_id, user_name, superuser,
    superuser OR syslog_access = 'UNRESTRICTED' OR 'sys:monitor' = ANY (roles) AS sees_all_rows
FROM redshift_facts.users WHERE user_name = current_user;
GRANT SELECT ON redshift_facts.me TO PUBLIC;

CREATE OR REPLACE VIEW redshift.pg_user AS
SELECT user_name::name AS usename, user_id AS usesysid, superuser AS usecreatedb, superuser AS usesuper,
    superuser AS usecatupd
FROM redshift_facts.users;

CREATE OR REPLACE VIEW redshift.svv_user_info AS
SELECT user_name, user_id, superuser AS createdb, superuser, superuser AS catalog_update,
    'UNLIMITED'::text AS connection_limit, syslog_access, NULL::timestamp AS last_ddl_timestamp,
    0 AS session_timeout, NULL::text AS external_user_id
FROM redshift_facts.users WHERE user_name = current_user OR (SELECT superuser FROM redshift_facts.me);

CREATE OR REPLACE VIEW redshift.svv_user_grants AS
SELECT u.user_id, u.user_name::varchar(128) AS user_name, r.role_id, r.role_name::varchar(128) AS role_name,
    false AS admin_option
FROM redshift_facts.users u JOIN redshift_facts.roles r ON r.role_name = ANY (u.roles)
WHERE u.user_name = current_user OR (SELECT superuser FROM redshift_facts.me);

-- The comment on a database names its cluster, and says whether it is of a datashare.
CREATE OR REPLACE VIEW redshift_catalog.pg_database AS
SELECT d.oid, d.datname, d.datistemplate, d.datallowconn, shobj_description(d.oid, 'pg_database') AS comment
FROM pg_catalog.pg_database d
WHERE d.datistemplate OR split_part(shobj_description(d.oid, 'pg_database'), ', ', 1) = (
    SELECT shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = current_database());

CREATE OR REPLACE VIEW redshift.svv_redshift_databases AS
SELECT datname::varchar(128) AS database_name, 100 AS database_owner,
    (CASE WHEN comment LIKE '%, shared' THEN 'shared' ELSE 'local' END)::varchar(32) AS database_type,
    NULL::varchar(128) AS database_acl, NULL::varchar(128) AS database_options,
    'Snapshot Isolation'::varchar(128) AS database_isolation_level
FROM redshift_catalog.pg_database WHERE NOT datistemplate;

CREATE OR REPLACE FUNCTION redshift.user_is_member_of(user_ text, role_ text) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = redshift_facts, pg_catalog
    AS $$
DECLARE
    is_member boolean;
BEGIN
    IF NOT EXISTS (SELECT FROM roles WHERE role_name = role_) THEN
        RAISE EXCEPTION 'role "%" does not exist', role_ USING ERRCODE = 'undefined_object';
    END IF;
    SELECT role_ = ANY (u.roles) INTO is_member
    FROM users u JOIN users caller ON caller.user_name = session_user
    WHERE u.user_name = user_ AND (u.user_name = caller.user_name OR caller.superuser);
    IF is_member IS NULL THEN
        RAISE EXCEPTION 'user "%" does not exist', user_ USING ERRCODE = 'undefined_object';
    END IF;
    RETURN is_member;
END $$
"""


def create_access(cursor: Any, database: str, views: dict[str, ViewFacts], users: dict[str, int]) -> None:
    """Create catalog views, users and row policies in a database that has its relations.

    The access of existing users is kept.

    Args:
        cursor: open in the database, as superuser.
        database: name of the database.
        views: the documented views.
        users: names and ids of users that do not log in.
    """
    _create_catalog(cursor, views)
    cursor.execute(_REFUSE)
    cursor.execute(_FACTS)
    cursor.executemany(
        "INSERT INTO redshift_facts.users VALUES (%s, %s, %s, %s, %s::text[]) ON CONFLICT DO NOTHING",
        [
            (1, "rdsdb", True, "UNRESTRICTED", []),
            *((user_id, name, False, "RESTRICTED", []) for name, user_id in users.items()),
            (USER_IDS[READER], READER, False, "RESTRICTED", ["sys:monitor"]),
            (USER_IDS[ORDINARY], ORDINARY, False, "RESTRICTED", []),
        ],
    )
    for user in (READER, ORDINARY):
        grant_defaults(cursor, database, user, views)
    cursor.execute(
        sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}, {}").format(
            *map(sql.Identifier, (SCHEMA, READER, _SUPERUSERS))
        )
    )
    for view, facts in views.items():
        if facts["visibility"] == "own":
            _show_own_rows(cursor, view, facts)


def grant_defaults(cursor: Any, database: str, user: str, views: dict[str, ViewFacts]) -> None:
    """Give a login role the default privileges of all users."""
    visible = [view for view, facts in views.items() if facts["visibility"] != "superuser"]
    relations = [sql.Identifier(SCHEMA, name) for name in (*_PUBLIC_RELATIONS, *visible)]
    cursor.execute(
        sql.SQL(
            "ALTER ROLE {user} IN DATABASE {database} SET search_path = {catalog}, {schema}, pg_catalog;"
            "GRANT CONNECT ON DATABASE {database} TO {user};"
            "GRANT USAGE ON SCHEMA {catalog}, {schema} TO {user};"
            "GRANT SELECT ON ALL TABLES IN SCHEMA {catalog} TO {user};"
            "GRANT SELECT ON {relations} TO {user};"
            "INSERT INTO redshift_facts.users (user_id, user_name)"
            " SELECT max(user_id) + 1, {name} FROM redshift_facts.users ON CONFLICT (user_name) DO NOTHING"
        ).format(
            user=sql.Identifier(user),
            name=sql.Literal(user),
            database=sql.Identifier(database),
            catalog=sql.Identifier(CATALOG),
            schema=sql.Identifier(SCHEMA),
            relations=sql.SQL(", ").join(relations),
        )
    )


def set_access(cursor: Any, user: str, **access: Unpack[Access]) -> None:
    """Change the given attributes of a login role, from the next statement of its sessions on.

    Unknown roles are created. Privileges granted to the user itself are kept.

    Raises:
        ValueError: the warehouse has no such user.
    """
    cursor.execute(
        "UPDATE redshift_facts.users SET superuser = coalesce(%(superuser)s, superuser),"
        " syslog_access = coalesce(%(syslog)s, syslog_access), roles = coalesce(%(roles)s::text[], roles)"
        " WHERE user_name = %(user)s",
        {"superuser": None, "syslog": None, "roles": None, **access, "user": user},
    )
    if cursor.rowcount == 0:
        raise ValueError(f"The warehouse has no user {user}.")
    cursor.execute(
        "INSERT INTO redshift_facts.roles (role_name) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING",
        [access.get("roles", [])],
    )
    if "superuser" in access:
        statement = "GRANT {} TO {}" if access["superuser"] else "REVOKE {} FROM {}"
        cursor.execute(sql.SQL(statement).format(sql.Identifier(_SUPERUSERS), sql.Identifier(user)))


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
    # No row of a view without such a column is a user's own.
    own = next((name for name in ("userid", "user_id", "user_name", "txn_owner") if name in columns), "")
    # PostgreSQL evaluates both subqueries once per query. The owner's sessions are not filtered.
    cursor.execute(
        sql.SQL(
            "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;"
            "DROP POLICY IF EXISTS everything ON {table}; DROP POLICY IF EXISTS own ON {table};"
            "CREATE POLICY own ON {table} FOR SELECT USING ("
            "(SELECT sees_all_rows FROM redshift_facts.me)"
            " OR btrim({column}::text) = (SELECT {identity}::text FROM redshift_facts.me))"
        ).format(
            table=sql.Identifier(SCHEMA, view),
            column=sql.Identifier(own) if own else sql.NULL,
            identity=sql.Identifier("user_id" if own in ("userid", "user_id") else "user_name"),
        )
    )
