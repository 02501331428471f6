"""Rows by COPY: all of them, however they come, and nothing of a query that fails on its way."""

import polars as pl
import psycopg
import pytest

from runtime import columns

ROWS = "SELECT n, repeat('x', n %% 5000) FROM generate_series(1, %s) AS n"
SCHEMA = {"n": pl.Int64, "text": pl.String}


def test_every_row_comes(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        found = columns.fetch(connection, ROWS, (6000,), SCHEMA)
        assert found["n"].to_list() == list(range(1, 6001))
        assert (found["text"].fill_null("").str.len_bytes() == found["n"] % 5000).all()
        assert columns.fetch(connection, ROWS, (0,), SCHEMA).is_empty()


def test_what_fails_on_its_way_is_an_error_and_the_connection_serves_on(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            columns.fetch(
                connection, "SELECT 1 / (%s - n) FROM generate_series(1, 9000) AS n", (8000,), {"n": pl.Int64}
            )
        assert connection.execute("SELECT 1").fetchone() == (1,)
