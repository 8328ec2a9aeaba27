"""SQL identifiers."""


def quote_identifier(name: str) -> str:
    """Return a name as a quoted identifier of PostgreSQL and Redshift, whatever characters it has."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
