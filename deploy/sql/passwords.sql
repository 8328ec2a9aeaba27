-- The passwords of the roles of postgres.sql, from the environment of psql 14 or later: deploy/compose.yaml runs it once,
-- when it creates the database. The statements contain the passwords: switch off log_statement first, if it is on.
\getenv owner POSTGRES_OWNER_PASSWORD
\getenv writer POSTGRES_WRITER_PASSWORD
ALTER ROLE qupersync_owner PASSWORD :'owner';
ALTER ROLE qupersync_writer PASSWORD :'writer';
