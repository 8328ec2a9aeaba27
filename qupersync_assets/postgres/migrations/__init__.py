"""The versions of the schema quper: env.py tells Alembic how to run what stands in versions/."""
