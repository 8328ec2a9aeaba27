"""SQL identifiers and literals."""


def quote_identifier(name: str) -> str:
    """Return a name as a quoted identifier of PostgreSQL and Redshift, whatever characters it has."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def quote_literal(text: str) -> str:
    """Return a text as a literal of PostgreSQL."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
