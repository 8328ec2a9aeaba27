"""The databases of the sandbox: Redshift's system views, its users and their privileges."""
