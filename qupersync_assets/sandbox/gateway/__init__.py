"""The gateway between Redshift drivers and PostgreSQL, with TLS and simulated network faults."""
