"""The private PostgreSQL server of the sandbox."""
