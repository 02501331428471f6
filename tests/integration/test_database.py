"""Connections to a real server over TCP, as processes on several machines have them."""

import socket

import psycopg
import pytest

from runtime import database

pytestmark = pytest.mark.server


def _user_timeout(connection: psycopg.Connection) -> int:
    """Milliseconds that the kernel waits for the server to acknowledge what it was sent; 0: some fifteen minutes."""
    with socket.socket(fileno=connection.fileno()) as seen:
        try:
            return seen.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        finally:
            seen.detach()


def test_a_server_that_vanishes_amid_a_statement_is_given_up_soon(real_empty_database: str) -> None:
    with database.connect(real_empty_database, "test") as connection:
        assert _user_timeout(connection) == 30_000


def test_what_the_url_says_has_precedence(real_empty_database: str) -> None:
    url = psycopg.conninfo.make_conninfo(real_empty_database, tcp_user_timeout="5000")
    with database.connect(url, "test") as connection:
        assert _user_timeout(connection) == 5_000
