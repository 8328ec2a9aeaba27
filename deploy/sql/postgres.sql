-- Rights of QuperSync in PostgreSQL 14 or later, in a database of its own:
--
--   CREATE DATABASE quper ENCODING 'UTF8' TEMPLATE template0;
--   psql -1 -v ON_ERROR_STOP=1 -d quper -f deploy/sql/postgres.sql
--   psql -d quper -c '\password qupersync_owner' -c '\password qupersync_writer'
--
-- It is run by a superuser, or by the owner of the database if that role may create roles. There is no password in
-- it: \password sends a hash, which no log shows in clear. Running it again changes nothing.
--
--   qupersync_owner    owns the schema quper: creates and alters its tables, when QuperSync is installed or upgraded
--   qupersync_writer   is POSTGRES_USER: syncs read and write rows, and nothing else of quper

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'qupersync_owner') THEN
        CREATE ROLE qupersync_owner LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'qupersync_writer') THEN
        CREATE ROLE qupersync_writer LOGIN;
    END IF;
END $$;

-- For what follows whoever is not a superuser has to be a member; taken back at the end.
GRANT qupersync_owner TO CURRENT_USER;

-- Temporary tables: each batch of rows is copied into one, then merged. Without the REVOKE everybody has both rights;
-- leave it out in a database that others use.
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO qupersync_owner', current_database());
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO qupersync_writer', current_database());
END $$;
-- Since PostgreSQL 15 this is so anyhow.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- The rows of QuperSync: in tables that are there, and in those that qupersync_owner will create. DELETE is for the
-- daily maintenance. No right on sequences is needed: the only one belongs to an identity column.
CREATE SCHEMA IF NOT EXISTS quper AUTHORIZATION qupersync_owner;
GRANT USAGE ON SCHEMA quper TO qupersync_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA quper TO qupersync_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE qupersync_owner IN SCHEMA quper
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO qupersync_writer;

-- Dagster's own tables (runs, events, schedules), which Dagster creates and upgrades itself as POSTGRES_USER: in a
-- schema of their own, the only one in which the writer may create anything. Statements of QuperSync name quper, and
-- do not depend on the search path.
CREATE SCHEMA IF NOT EXISTS dagster AUTHORIZATION qupersync_owner;
GRANT USAGE, CREATE ON SCHEMA dagster TO qupersync_writer;
DO $$
BEGIN
    EXECUTE format('ALTER ROLE qupersync_writer IN DATABASE %I SET search_path = dagster', current_database());
END $$;

REVOKE qupersync_owner FROM CURRENT_USER;
