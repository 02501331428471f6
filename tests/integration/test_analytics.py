"""The analysts' file: one shop's numbers as the stream and the lake have them, said in words, and swapped whole."""

import base64
import csv
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import psycopg
import pytest
from typer.testing import CliRunner

from batch import frames
from batch.analytics import making
from batch.analytics.tables import TABLES
from cli.main import command
from events import instants
from lake import cohorts, past
from lake.manifest import Lake
from runtime import duck
from runtime.settings import Settings
from tests import killed, stores
from tests.conftest import _Databases
from tests.integration.api_world import MASTER, opened
from tests.integration.api_world import SHOP as NEST
from tests.integration.test_batch import add_program, add_raw
from tests.played import SHOP, UNTIL, Played
from tests.support import ROOT

OTHER = "other.myshopify.com"
POINTS = ("balance", "pending", "earned", "spent", "expired", "expiring", "expire_at")


@pytest.fixture(scope="module")
def played(_databases: _Databases) -> Iterator[Played]:
    with _databases.one() as url:
        yield Played(url, customers=150, webhooks=2000, program={"zone": "America/New_York"})


@pytest.fixture(scope="module")
def made(played: Played, tmp_path_factory: pytest.TempPathFactory) -> making.Made:
    """The file where `loyalnest sql --data` looks for it, and its Parquet."""
    folder = tmp_path_factory.mktemp("data")
    settings = Settings(data_dir=folder)
    with psycopg.connect(played.url, autocommit=True, options="-c timezone=UTC") as connection:
        lake = Lake(settings.lake)
        played.batch(connection, lake, instants.to_datetime(UNTIL))
        return making.make(connection, lake, SHOP, settings.analytics_file(SHOP), UNTIL, parquet=True)


@pytest.fixture
def file(made: making.Made) -> Iterator[duckdb.DuckDBPyConnection]:
    with duck.locked(made.path, "1GB") as connection:
        yield connection


def one(file: duckdb.DuckDBPyConnection, query: str) -> Any:
    rows = file.execute(query).fetchall()
    assert len(rows) == 1
    return rows[0][0] if len(rows[0]) == 1 else rows[0]


def test_every_table_and_every_column_says_what_it_is(file: duckdb.DuckDBPyConnection) -> None:
    rows = file.execute(
        "SELECT table_name, '', comment FROM duckdb_tables() WHERE NOT internal"
        " UNION ALL SELECT view_name, '', comment FROM duckdb_views() WHERE NOT internal"
        " UNION ALL SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
    ).fetchall()
    assert {name for name, column, _ in rows if not column} == {
        table.name for table in TABLES if "TEMP" not in table.kind
    }
    assert [(name, column) for name, column, comment in rows if not comment] == []
    # Money is said to be money, and an instant of a kind.
    for name, column, comment in rows:
        if column.endswith("_minor"):
            assert "minor units" in comment, (name, column)
        if column.endswith("_local"):
            assert "clocks of the shop" in comment, (name, column)
    amounts = file.execute(
        "SELECT table_name, column_name, comment FROM duckdb_columns()"
        " WHERE NOT internal AND (data_type LIKE 'DECIMAL(18,%' OR data_type LIKE 'DECIMAL(19,%')"
    ).fetchall()
    assert [each for each in amounts if "major units" not in each[2]] == []


def test_customers_are_as_the_stream_has_them_and_their_orders_make_it(
    played: Played, file: duckdb.DuckDBPyConnection
) -> None:
    with psycopg.connect(played.url) as connection:
        stored = connection.execute(
            "SELECT customer_id, segment, r, f, m, score, recency_days, frequency, monetary, balance, pending, earned,"
            " spent, expired, expiring, expires_at FROM customers ORDER BY 1"
        ).fetchall()
    columns = "customer_id, segment, r, f, m, score, recency_days, frequency, monetary_minor, "
    columns += ", ".join(f"points_{name}" for name in POINTS)
    assert file.execute(f"SELECT {columns} FROM customers ORDER BY 1").fetchall() == stored
    # The stream's sums are those of the lake's orders, each customer's as of their own time.
    assert one(
        file,
        "SELECT count(*), count(*) FILTER (WHERE c.frequency <> o.frequency OR c.monetary <> o.monetary),"
        " count(*) FILTER (WHERE c.points_balance <> o.points) FROM customers c JOIN ("
        "  SELECT c.customer_id, count(*) FILTER (WHERE inside) AS frequency,"
        "   sum(o.net) FILTER (WHERE inside) AS monetary, sum(o.points_earned - points_reversed) AS points"
        "  FROM customers c JOIN (SELECT *, counted AND net > 0 AS worth FROM orders) o USING (customer_id),"
        "  LATERAL (SELECT worth AND processed_at > as_of - INTERVAL 8760 HOURS AS inside)"
        "  WHERE processed_at <= as_of GROUP BY 1) o USING (customer_id) WHERE c.frequency > 0",
    ) == (one(file, "SELECT count(*) FROM customers WHERE frequency > 0"), 0, 0)
    assert one(file, "SELECT sum(points) FROM points_ledger") == one(
        file, "SELECT sum(points_balance + points_pending + points_expired) FROM customers"
    )
    assert (
        one(
            file,
            "SELECT max(nth) - count(*) FROM orders WHERE customer_id = (SELECT arg_max(customer_id, orders)"
            " FROM customers) AND nth IS NOT NULL",
        )
        == 0
    )


def test_what_does_not_count_says_why(file: duckdb.DuckDBPyConnection) -> None:
    reasons = dict(file.execute("SELECT reason, count(*) FROM orders GROUP BY ALL").fetchall())
    assert set(reasons) == {None, "test", "cancelled", "refunded", "not paid", "guest"}
    assert one(file, "SELECT count(*) FROM orders WHERE counted <> (reason IS NULL)") == 0
    assert one(file, "SELECT count(*) FROM orders WHERE reason = 'guest' AND customer_id IS NOT NULL") == 0


def test_money_is_both_and_clocks_are_the_shops(file: duckdb.DuckDBPyConnection) -> None:
    assert one(file, "SELECT sum(net * 100 - net_minor) + sum(gross * 100 - gross_minor) FROM orders") == 0
    assert one(file, "SELECT typeof(any_value(net)) FROM orders") == "DECIMAL(18,2)"
    ahead = one(file, "SELECT list(DISTINCT date_diff('hour', processed_local, processed_at::TIMESTAMP)) FROM orders")
    assert sorted(ahead) == [4, 5]
    columns = set(file.execute("SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal").fetchall())
    for table, column in columns:
        minor, local = f"{column}_minor", column.replace("_at", "_local")
        if (table, minor) in columns:
            assert one(file, f"SELECT coalesce(sum({column} * 100 - {minor}), 0) FROM {table}") == 0
        if column.endswith("_at") and (table, local) in columns:
            off = f"{local} <> timezone('America/New_York', {column})"
            assert one(file, f"SELECT count(*) FILTER ({off}) FROM {table}") == 0


def test_scores_and_segment_ids_are_the_databases(played: Played, file: duckdb.DuckDBPyConnection) -> None:
    asked = "SELECT id::text, score::text, segment_id FROM rfm_score_history ORDER BY 1"
    with psycopg.connect(played.url) as connection:
        changes = [each[1:] for each in connection.execute(asked).fetchall()]
        ledger = connection.execute("SELECT id, points FROM points_transactions ORDER BY 1").fetchall()
    found = file.execute("SELECT score::VARCHAR, segment_id FROM rfm_changes").fetchall()
    assert sorted(found, key=str) == sorted(changes, key=str)
    assert {digits for _, digits in found} >= {"seg_000"}
    assert file.execute("SELECT entry_id, points FROM points_ledger ORDER BY 1").fetchall() == ledger


def test_lines_are_those_of_the_newest_snapshot(played: Played, file: duckdb.DuckDBPyConnection) -> None:
    """Against the payloads, read here."""
    newest: dict[str, Any] = {}
    with psycopg.connect(played.url) as connection:
        for (value,) in connection.execute("SELECT value FROM raw_events WHERE webhook_topic LIKE 'orders/%'"):
            envelope = json.loads(value)
            order = envelope["payload"]
            if (told := newest.get(str(order["id"]))) is None or told["updated_at"] <= order["updated_at"]:
                newest[str(order["id"])] = order
    expected = []
    for ident, order in newest.items():
        for at, line in enumerate(order["line_items"], 1):
            cents = round(Decimal(line["price"]) * 100)
            off = round(sum(Decimal(each["amount"]) for each in line["discount_allocations"]) * 100)
            left, ordered = line["current_quantity"], line["quantity"]
            amount = cents * left - (2 * off * left + ordered) // (2 * ordered)
            item = None if line["gift_card"] else str(line["product_id"])
            expected.append((ident, at, item, ordered, left, cents, off, amount))
    found = file.execute(
        "SELECT order_id, line, item, quantity, pieces, price_minor, discount_minor, amount_minor FROM order_lines"
    ).fetchall()
    assert sorted(found) == sorted(expected)
    assert any(left < ordered for _, _, _, ordered, left, *_ in found)
    assert set(file.execute("SELECT DISTINCT channel FROM orders").fetchall()) == {("web",), ("pos",)}


def test_segments_by_day_end_where_everybody_is(file: duckdb.DuckDBPyConnection) -> None:
    now = file.execute(
        "SELECT segment, count(*) FROM customers WHERE merged_into IS NULL GROUP BY 1 ORDER BY 1"
    ).fetchall()
    last = file.execute(
        "SELECT segment, customers FROM segments_by_day WHERE day = (SELECT max(day) FROM segments_by_day) ORDER BY 1"
    ).fetchall()
    assert now == last


def test_cohorts_and_months_are_those_of_the_api(
    played: Played, made: making.Made, file: duckdb.DuckDBPyConnection
) -> None:
    """Worked out from the lake, which knows nothing of the file."""
    with psycopg.connect(played.url, autocommit=True, options="-c timezone=UTC") as connection:
        lake = Lake(made.path.parent.parent.parent / "lake")
        found = cohorts.cohorts(connection, lake, played.program, UNTIL)
        march = past.standings(connection, lake, played.program, instants.parse("2026-03-01T05:00:00Z"))
    assert file.execute(
        "SELECT cohort, size, months_since, customers, orders, net_minor, repeat_customers FROM cohorts ORDER BY ALL"
    ).fetchall() == [
        (each.month, each.customers, since, *(month[name] for name in ("customers", "orders", "net", "repeated")))
        for each in found
        for since, month in enumerate(each.months)
    ]
    assert dict(
        file.execute("SELECT segment, count(*) FROM rfm_by_month WHERE month = '2026-03-01' GROUP BY 1").fetchall()
    ) == {each["segment"]: each["customers"] for each in march.segments}
    # Whoever was there when a month began went somewhere in it, and everybody is where they are.
    assert (
        one(
            file,
            "SELECT count(*) FROM (SELECT month, previous_segment, sum(customers) AS n FROM movement GROUP BY ALL) AS v"
            " JOIN (SELECT month, segment, count(*) AS n FROM rfm_by_month GROUP BY ALL) AS m"
            " ON m.month = v.month AND m.segment = v.previous_segment WHERE m.n <> v.n",
        )
        == 0
    )
    now = "SELECT segment, count(*) FROM customers WHERE merged_into IS NULL GROUP BY 1 ORDER BY 1"
    came = "SELECT segment, sum(customers) FROM movement WHERE month = '2026-11-01' AND segment IS NOT NULL GROUP BY 1"
    stand = file.execute(now).fetchall()
    assert stand == file.execute(f"{came} ORDER BY 1").fetchall()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT content FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "COPY customers TO '/tmp/loyalnest-out.csv'",
        "COPY (SELECT 1) TO '/tmp/loyalnest-out.parquet' (FORMAT parquet)",
        "EXPORT DATABASE '/tmp/loyalnest-out'",
        "ATTACH '/tmp/loyalnest-out.duckdb' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_parquet('https://example.com/a.parquet')",
        "SET enable_external_access = true",
        "SET memory_limit = '900GB'",
        "RESET lock_configuration",
        "DELETE FROM customers",
        "CREATE TABLE more (a INTEGER)",
        "DROP VIEW revenue_by_month",
    ],
)
def test_nothing_else_is_in_reach(file: duckdb.DuckDBPyConnection, query: str) -> None:
    with pytest.raises(duckdb.Error):
        file.execute(query).fetchall()
    assert not list(Path("/tmp").glob("loyalnest-out*"))


def sql(made: making.Made, *words: str, **more: Any) -> Any:
    data = made.path.parent.parent.parent
    return CliRunner().invoke(command("sql"), ["sql", "--shop", "demo", "--data", str(data), *words], **more)


def test_sql_prints_rows(made: making.Made) -> None:
    asked = "SELECT 'a,b' AS text, 12.50::DECIMAL(9, 2) AS amount, NULL AS nothing, [1, 2] AS list, true AS yes"
    found = list(csv.reader(StringIO(sql(made, "--format", "csv", asked).stdout)))
    assert found == [["text", "amount", "nothing", "list", "yes"], ["a,b", "12.50", "", "1, 2", "true"]]
    [row] = json.loads(sql(made, "--format", "json", asked).stdout)
    assert row == {"text": "a,b", "amount": "12.50", "nothing": None, "list": [1, 2], "yes": True}
    table = sql(made, "SELECT segment, count(*) AS customers FROM customers GROUP BY ALL ORDER BY ALL").stdout
    assert re.search(r"^ *segment +customers *$", table, re.MULTILINE)
    assert re.search(r"^ *Prospects +\d+ *$", table, re.MULTILINE)
    assert "no rows (segment)" in sql(made, "SELECT segment FROM customers WHERE false").stdout


def test_sql_rounds_nothing_for_programs(made: making.Made) -> None:
    asked = (
        "SELECT 1234567.89::DOUBLE AS amount, 1 / 3 AS third, 1 / 0 AS none, 'nan'::DOUBLE AS nan, [0.1 + 0.2] AS list"
    )
    [names, row] = csv.reader(StringIO(sql(made, "--format", "csv", asked).stdout))
    assert names == ["amount", "third", "none", "nan", "list"]
    assert row == ["1234567.89", repr(1 / 3), "inf", "nan", "0.3"]
    [row] = json.loads(sql(made, "--format", "json", asked).stdout, parse_constant=pytest.fail)
    assert row == {"amount": 1234567.89, "third": 1 / 3, "none": None, "nan": None, "list": ["0.3"]}
    assert re.search(r"^ *1234567\.9 +0\.333333 +inf +nan +0\.3 *$", sql(made, asked).stdout, re.MULTILINE)


def test_sql_prints_as_many_rows_as_there_are(made: making.Made) -> None:
    asked = "SELECT i, repeat('a\nb', 1) AS text FROM range(25000) AS t (i)"
    found = json.loads(sql(made, "--format", "json", asked).stdout)
    assert [each["i"] for each in found] == list(range(25_000))
    assert found[-1]["text"] == "a\nb"
    rows = list(csv.reader(StringIO(sql(made, "--format", "csv", asked).stdout)))
    assert [row[0] for row in rows] == ["i", *map(str, range(25_000))]
    assert json.loads(sql(made, "--format", "json", "SELECT 1 WHERE false").stdout) == []


def test_sql_loses_no_column_of_a_name_that_is_taken(made: making.Made) -> None:
    [row] = json.loads(sql(made, "--format", "json", "SELECT 1 AS a_3, 2 AS a, 3 AS a, 4 AS a_2, 5 AS a").stdout)
    assert list(row.values()) == [1, 2, 3, 4, 5]
    assert {name: row[name] for name in ("a", "a_2", "a_3")} == {"a": 2, "a_2": 4, "a_3": 1}


def test_sql_has_a_prompt(made: making.Made) -> None:
    typed = (
        ".tables\n.columns about\nSELECT 41\n  + 1 AS answer;\nSELECT nonsense;\nSELECT 7 AS last;\n.quit\nSELECT 8;\n"
    )
    found = sql(made, input=typed)
    assert found.exit_code == 0
    for word in ("rfm_changes", "look_back_days", "answer", "42", "last"):
        assert word in found.output
    assert "nonsense" in found.output
    assert "8" not in found.output.split("last")[1]


def test_sql_says_what_is_wrong(made: making.Made, tmp_path: Path) -> None:
    none = CliRunner().invoke(command("sql"), ["sql", "--shop", "nest", "--data", str(tmp_path), "SELECT 1"])
    assert "run `loyalnest batch analytics --shop nest.myshopify.com`" in str(none.exception)
    assert "nonsense" in str(sql(made, "SELECT nonsense FROM customers").exception)
    for nothing in ("", " ", ";"):
        assert "the query is empty" in str(sql(made, nothing).exception)
    assert "the query is empty" in sql(made, input=";\nSELECT 1;\n").output
    assert "file system operations are disabled" in str(sql(made, "SELECT * FROM read_csv('/etc/passwd')").exception)


def test_parquet_is_the_same(made: making.Made, file: duckdb.DuckDBPyConnection) -> None:
    folder = made.path.with_suffix(".parquet")
    assert {path.stem for path in folder.glob("*.parquet")} == {t.name for t in TABLES if t.kind == "TABLE"}
    orders = pl.scan_parquet(folder / "orders.parquet").collect()
    assert orders.schema["processed_at"] == pl.Datetime("us", "UTC")
    counted = orders.filter("counted")
    assert (counted.height, counted["net"].sum()) == one(file, "SELECT count(*), sum(net) FROM orders WHERE counted")


# --- the questions of docs/analysts.md ---------------------------------------------------------------------------

DOC = ROOT / "docs" / "analysts.md"
BLOCK = re.compile(r"```(sql|python|text)\n(.*?)```\n", re.DOTALL)


def test_the_questions_have_these_answers(made: making.Made) -> None:
    """With LOYALNEST_TEST_WRITE=1 the answers are written anew, to be looked at."""
    page, folder = DOC.read_text(encoding="utf-8"), made.path.with_suffix(".parquet")
    names: dict[str, Any] = {"folder": folder}
    answered = 0
    first, *sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    written = [first]
    for section in sections:
        blocks: dict[str, str] = dict(BLOCK.findall(section))
        asked = sql(made, blocks["sql"])
        assert asked.exit_code == 0, asked.exception
        answer = "\n".join(line.rstrip() for line in asked.stdout.splitlines()).strip("\n")
        if "python" in blocks:
            exec(blocks["python"], names)
            with duck.locked(made.path, "1GB") as file:
                rows = file.execute(blocks["sql"]).fetchall()
            assert [_plain(row) for row in names["answer"].iter_rows()] == [_plain(row) for row in rows], section
            answered += 1
        question = re.sub(r"```text\n.*?```\n", "", section, flags=re.DOTALL).rstrip("\n")
        written.append(f"{question}\n\n```text\n{answer}\n```\n\n")
    whole = "".join(written).rstrip("\n") + "\n"
    if os.environ.get("LOYALNEST_TEST_WRITE"):
        DOC.write_text(whole, encoding="utf-8")
    assert (len(sections), answered) == (12, 3)
    assert page == whole


def _plain(row: tuple[Any, ...]) -> list[Any]:
    return [round(float(cell), 6) if isinstance(cell, float | int | Decimal) else cell for cell in row]


# --- products through the API ------------------------------------------------------------------------------------

SORTS = {
    "item": "item, variant",
    "-monetary": "monetary_minor DESC, item DESC, variant DESC",
    "recency_days": "recency_days, item, variant",
    "-came_back": "came_back DESC, item DESC, variant DESC",
}


def test_the_api_pages_through_the_files_products(played: Played, file: duckdb.DuckDBPyConnection) -> None:
    buyers = file.execute("SELECT item, segment, buyers FROM product_segments").fetchall()
    with opened(played.url) as world:
        headers = world.key("read", shop=SHOP)

        def pages(**asked: Any) -> Iterator[dict[str, Any]]:
            while True:
                page = world.client.get(f"/v1/shops/{SHOP}/products", headers=headers, params=asked).json()
                assert page["as_of"] == "2026-11-21T09:30:00Z"
                yield page
                if page["next"] is None:
                    return
                asked["cursor"] = page["next"]

        for sort, order in SORTS.items():
            for table, variant in (("products", "NULL"), ("variants", "variant")):
                expected = file.execute(
                    f"SELECT item, {variant} AS variant, product_id, sku, recency_days, frequency, pieces, monetary,"
                    f" buyers, repeat_buyers, repeat_rate, first_orders, came_back FROM {table} ORDER BY {order}"
                ).fetchall()
                found = list(pages(sort=sort, limit=25, variants=table == "variants"))
                assert len(found) > 1
                items = [each for page in found for each in page["items"]]
                assert [_row(each) for each in items] == expected
                told = [(each["item"], *pair) for each in items for pair in each["segments"].items()]
                assert sorted(told) == ([] if table == "variants" else sorted(buyers))
        refused = world.client.get(
            f"/v1/shops/{SHOP}/products", headers=headers, params={"sort": "item", "cursor": found[0]["next"]}
        )
        assert refused.status_code == 400
        assert world.get("/products", world.key("read")).json() == {"as_of": None, "items": [], "next": None}
        assert world.get("/products", world.key("export")).status_code == 403


def _row(each: dict[str, Any]) -> tuple[Any, ...]:
    return (
        *(each["item"], each["variant"], each["product_id"], each["sku"], each["recency_days"], each["frequency"]),
        *(each["pieces"], Decimal(each["monetary"]["amount"]), each["buyers"], each["repeat_buyers"]),
        *(each["repeat_rate"], each["first_orders"], each["came_back"]),
    )


# --- a shop with everything that can go wrong --------------------------------------------------------------------


@pytest.fixture
def adverse(database: str, tmp_path: Path) -> Iterator[tuple[psycopg.Connection[Any], Lake, Path]]:
    with psycopg.connect(database, autocommit=True) as connection:
        add_program(connection, stores.SHOP, currency="KWD")
        add_raw(connection, [each for seed in range(2) for each in stores.store(seed, currency="KWD", moments=6)])
        yield connection, Lake(tmp_path / "lake"), tmp_path / "a" / "analytics.duckdb"


def make(at: tuple[psycopg.Connection[Any], Lake, Path], shop: str = stores.SHOP) -> making.Made:
    return making.make(at[0], at[1], shop, at[2], 1_793_534_400_000_000)


def test_no_hash_of_an_address_is_in_it_and_no_other_shop(adverse: tuple[Any, Lake, Path]) -> None:
    connection, _, path = adverse
    add_program(connection, OTHER)
    # The ids of its orders begin as nothing of the first shop does.
    add_raw(
        connection,
        [json.loads(json.dumps({**each, "shop": OTHER}).replace("82098", "99098")) for each in stores.store(9)],
    )
    envelopes = connection.execute("SELECT value FROM raw_events").fetchall()
    hashes = {each for (value,) in envelopes for each in re.findall("mail-[0-9a-f]{32}", value)}
    for each in hashes:
        connection.execute(
            "INSERT INTO customers (shop, customer_id, now, currency, balance, frequency, monetary, segment_id,"
            " segment, cut_points_version, deleted, redacted, merged_into)"
            " VALUES (%s, %s, now(), 'KWD', 0, 0, 0, 'seg_000', 'Prospects', 'default', false, false, %s)",
            (stores.SHOP, each, min(hashes)),
        )
    make(adverse)
    with duck.locked(path, "1GB") as file:
        assert one(file, "SELECT currency, decimals FROM about") == ("KWD", 3)
        texts = file.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND data_type = 'VARCHAR'"
        ).fetchall()
        found = {
            value
            for table, column in texts
            for (value,) in file.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL").fetchall()
        }
        known = one(file, "SELECT count(DISTINCT customer_id) FROM customers WHERE customer_id LIKE 'mail-%'")
    assert hashes
    assert not hashes & found
    assert {value[:5] for value in found} >= {"82098"}
    assert not [value for value in found if value.startswith("99098")]
    assert known == len(hashes)


def test_addresses_are_for_who_may_see_them(database: str, tmp_path: Path) -> None:
    out = tmp_path / "mine.duckdb"
    with opened(database) as world:
        world.program()
        world.customer("1", contact=world.contact("1", "ada@example.com"))
        world.customer("2", contact=world.contact("2", "bela@example.com"), deleted=True)
        world.customer("3")
        keys = [world.key(*scopes)["Authorization"].split()[1] for scopes in (("export",), ("export", "pii"))]
        master = base64.b64encode(MASTER).decode()
        settings = Settings(database=database, data_dir=tmp_path, master_key=master)
        with pytest.raises(frames.BatchError, match="scopes export and pii"):
            making.main(settings, NEST, out, key=keys[0])
        assert not out.exists()
        making.main(settings, NEST, out, key=keys[1])
        making.main(settings, NEST)
    assert out.stat().st_mode & 0o777 == 0o600
    with duck.locked(out, "1GB") as file:
        assert file.execute("FROM addresses").fetchall() == [("1", "ada@example.com", "subscribed")]
    with duck.locked(settings.analytics_file(NEST), "1GB") as file, pytest.raises(duckdb.CatalogException):
        file.execute("FROM addresses")


def test_what_is_yet_to_come_is_nobodys_order_yet(adverse: tuple[Any, Lake, Path]) -> None:
    connection, lake, path = adverse
    made = make(adverse)
    with duck.locked(made.path, "1GB") as file:
        middle = one(file, "SELECT epoch_us(quantile_disc(processed_at, 0.5)) FROM orders WHERE nth IS NOT NULL")
        counts = "SELECT count(*) FROM orders WHERE counted AND net > 0 AND "
        later = one(file, f"{counts} epoch_us(processed_at) > {middle}")
    assert later
    making.make(connection, lake, stores.SHOP, path, middle)
    with duck.locked(path, "1GB") as file:
        assert one(file, "SELECT epoch_us(max(processed_at)) FROM orders WHERE nth IS NOT NULL") == middle
        assert one(file, f"{counts} nth IS NULL") == later
        assert one(file, "SELECT sum(orders), sum(net) FROM revenue_by_month") == one(
            file, "SELECT count(*), sum(net) FROM orders WHERE nth IS NOT NULL"
        )


def test_parquet_is_there_whatever_the_clock_says(tmp_path: Path) -> None:
    link = tmp_path / "analytics.parquet"
    (tmp_path / f".{link.name}.{os.getpid()}").symlink_to("nowhere")  # whoever was killed had this process's number
    (tmp_path / f"{link.name}.zip").touch()  # somebody's own
    before = None
    for made_at in (50, 60, 30, 40, 41):  # put back, after the second
        fresh = tmp_path / "fresh"
        fresh.mkdir()
        (fresh / "orders.parquet").write_text(str(made_at))
        making._swap_folder(fresh, link, made_at)
        assert (link / "orders.parquet").read_text() == str(made_at)
        assert before is None or before.exists(), "somebody may read it"
        before = link.resolve()
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        link.name,
        *(f"{link.name}.{rest}" for rest in ("40", "41", "zip")),
    ]


def test_a_reader_keeps_the_old_one_and_the_next_sees_the_new(adverse: tuple[Any, Lake, Path]) -> None:
    connection, _, path = adverse
    make(adverse)
    with duck.locked(path, "1GB") as before:
        count = one(before, "SELECT count(*) FROM orders")
        add_raw(connection, stores.store(7, currency="KWD"))
        make(adverse)
        assert one(before, "SELECT count(*) FROM orders") == count
        seen = subprocess.run(
            [sys.executable, "-c", _COUNT, str(path)], capture_output=True, text=True, check=True
        ).stdout.strip()
    with duck.locked(path, "1GB") as after:
        assert count < one(after, "SELECT count(*) FROM orders") == int(seen)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


_COUNT = """
import sys
from pathlib import Path
from runtime import duck
with duck.locked(Path(sys.argv[1]), "1GB") as file:
    print(file.execute("SELECT count(*) FROM orders").fetchone()[0])
"""


def shape(path: Path) -> list[Any]:
    """Every table and view with its rows."""
    with duck.locked(path, "1GB") as file:
        names = file.execute("SELECT table_name FROM information_schema.tables ORDER BY 1").fetchall()
        return [(name, one(file, f"SELECT count(*) FROM {name}")) for (name,) in names]


def test_killed_at_any_moment_a_whole_file_stands(
    adverse: tuple[Any, Lake, Path], database: str, tmp_path: Path
) -> None:
    """The old one, or, where only its maker's end was left to come, the new one."""
    _, lake, path = adverse
    make(adverse)
    whole = shape(path)
    words = [database, str(lake.folder), stores.SHOP, str(path), 1_793_534_400_000_000]
    chance, kills = random.Random(2), 0
    for patience in (0.05, 0.5, chance.uniform(0.5, 2.0)):
        process = killed.begun(tmp_path, killed.make, *words)
        time.sleep(patience)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait(60)
        assert shape(path) == whole
    assert kills
    make(adverse)
    assert shape(path) == whole
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_one_makes_it_at_a_time(
    adverse: tuple[Any, Lake, Path], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "HELD", 0.0)
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (f"loyalnest analytics {stores.SHOP}",))
        with pytest.raises(frames.BatchError, match="another process is making"):
            make(adverse)
    assert not adverse[2].exists()


def test_an_account_and_entries_of_every_source(adverse: tuple[Any, Lake, Path]) -> None:
    connection, _, path = adverse
    connection.execute(
        "INSERT INTO customers (shop, customer_id, now, currency, balance, pending, earned, spent, expired, expiring,"
        " expires_at, frequency, monetary, segment_id, segment, cut_points_version, deleted, redacted)"
        " VALUES (%s, '7', now(), 'KWD', -20, 100, 150, 350, 70, 80, '2026-12-15T05:00:00Z', 0, 0, 'seg_000',"
        " 'Prospects', 'default', false, false)",
        (stores.SHOP,),
    )
    told = [
        ("order", "450789469", "earned", 200),
        ("order", "450789469", "reversed", -50),
        ("award", "birthday", "adjusted", 350),
        ("deduction", "mistake", "adjusted", -100),
        ("redeem", "r-1", "redeemed", -250),
    ]
    for source, name, kind, points in told:
        connection.execute(
            "INSERT INTO points_transactions (posted_at, id, shop, customer_id, source, source_id, kind, points,"
            " revision, processed_at) VALUES (now(), gen_random_uuid(), %s, '7', %s, %s, %s, %s, 'r', now())",
            (stores.SHOP, source, name, kind, points),
        )
    make(adverse)
    with duck.locked(path, "1GB") as file:
        names = ", ".join(f"points_{name}" for name in POINTS)
        row = one(file, f"SELECT {names}, points_expire_local FROM customers WHERE customer_id = '7'")
        local = datetime(2026, 12, 15, 5, tzinfo=UTC).astimezone(ZoneInfo(one(file, "SELECT zone FROM about")))
        assert row[:6] == (-20, 100, 150, 350, 70, 80)
        assert (row[6], row[7]) == (datetime(2026, 12, 15, 5, tzinfo=UTC), local.replace(tzinfo=None))
        ledger = "SELECT source, source_id, kind, points FROM points_ledger WHERE customer_id = '7'"
        assert sorted(file.execute(ledger).fetchall()) == sorted(told)
        balance, pending, *_, expired = row[:5]
        assert sum(points for *_, points in told) == balance + pending + expired
