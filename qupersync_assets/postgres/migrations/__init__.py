"""The versions of the schema quper: env.py runs the files of versions/ for Alembic."""
