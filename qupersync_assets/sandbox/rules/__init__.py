"""The rules by which the sandbox accepts or refuses SQL statements, as Redshift does."""
