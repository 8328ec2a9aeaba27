-- Privileges of QuperSync in PostgreSQL 14 or later, in a database of its own:
--
--   CREATE DATABASE quper ENCODING 'UTF8' TEMPLATE template0;
--   psql -1 -v ON_ERROR_STOP=1 -d quper -f deploy/sql/postgres.sql
--   psql -d quper -c '\password qupersync_owner' -c '\password qupersync_writer'
--
-- Run it as a superuser, or as the owner of the database if that role may create roles. It contains no password:
-- \password sends a hash, so that logs do not show the password. Running it again changes nothing.
--
--   qupersync_owner    owns the schema quper: creates and alters its tables when QuperSync is installed or upgraded
--   qupersync_writer   is POSTGRES_USER: syncs read and write rows of quper and cannot alter its tables
--   quper_readers      may read the tables and views of quper; its members are the logins of Grafana and other readers:
--                      CREATE ROLE grafana LOGIN; GRANT quper_readers TO grafana;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'qupersync_owner') THEN
        CREATE ROLE qupersync_owner LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'qupersync_writer') THEN
        CREATE ROLE qupersync_writer LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'quper_readers') THEN
        CREATE ROLE quper_readers NOLOGIN;
    END IF;
END $$;

-- The following statements require membership, except for a superuser; it is revoked at the end.
GRANT qupersync_owner TO CURRENT_USER;

-- Temporary tables: each batch of rows is copied into one, then merged. By default all roles have both privileges; omit
-- the REVOKE in a database that others use.
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO qupersync_owner', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO quper_readers', current_database());
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO qupersync_writer', current_database());
END $$;
-- The default since PostgreSQL 15. In 14 only a superuser can change it; as owner of the database this is a warning, and
-- all roles that may connect can create tables in `public`.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- Rows of QuperSync, in existing tables and in those that qupersync_owner will create. DELETE is for the daily
-- retention job. No privilege on sequences is needed: the only one belongs to an identity column.
CREATE SCHEMA IF NOT EXISTS quper AUTHORIZATION qupersync_owner;
GRANT USAGE ON SCHEMA quper TO qupersync_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA quper TO qupersync_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE qupersync_owner IN SCHEMA quper
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO qupersync_writer;
-- Only migrations change the version of the schema; `qupersync migrate` revokes this too when it creates the table.
DO $$
BEGIN
    IF to_regclass('quper.schema_version') IS NOT NULL THEN
        REVOKE INSERT, UPDATE, DELETE ON quper.schema_version FROM qupersync_writer;
    END IF;
END $$;
-- TABLES include views. Rows contain texts of statements, unless SYNC_QUERY_TEXT hides them.
GRANT USAGE ON SCHEMA quper TO quper_readers;
GRANT SELECT ON ALL TABLES IN SCHEMA quper TO quper_readers;
ALTER DEFAULT PRIVILEGES FOR ROLE qupersync_owner IN SCHEMA quper GRANT SELECT ON TABLES TO quper_readers;

-- Dagster's tables (runs, events, schedules). Dagster creates and upgrades them as POSTGRES_USER, in a schema of their
-- own, the only one in which the writer may create tables. Statements of QuperSync name the schema quper and do not
-- depend on the search path.
CREATE SCHEMA IF NOT EXISTS dagster AUTHORIZATION qupersync_owner;
GRANT USAGE, CREATE ON SCHEMA dagster TO qupersync_writer;
DO $$
BEGIN
    EXECUTE format('ALTER ROLE qupersync_writer IN DATABASE %I SET search_path = dagster', current_database());
END $$;

REVOKE qupersync_owner FROM CURRENT_USER;
