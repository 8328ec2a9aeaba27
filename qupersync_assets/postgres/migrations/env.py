"""Run by Alembic: on the connection, and in the transaction, that `schema.migrate` hands over.

https://alembic.sqlalchemy.org/en/latest/cookbook.html#connection-sharing
"""

from alembic import context

from qupersync_assets.postgres.schema import VERSION_TABLE
from qupersync_assets.spec import SCHEMA

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    version_table_schema=SCHEMA,
)
context.run_migrations()
