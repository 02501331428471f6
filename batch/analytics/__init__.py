"""The analysts' file: all that is known of one shop as DuckDB tables, and which of its products sell together."""
