"""QuperSync: Amazon Redshift system views, kept fresh in PostgreSQL by Dagster assets."""
