"""Run the migrations in the transaction of `schema.migrate`, which passes all options; executed by Alembic.

https://alembic.sqlalchemy.org/en/latest/cookbook.html#connection-sharing
"""

from alembic import context

context.configure(**context.config.attributes)
context.run_migrations()
