"""Polars and DuckDB over the history: cut points, segment recomputation, closed windows."""
