"""Files of transactions become signed webhooks, the same each time, and are posted until accepted."""

import asyncio
import base64
import hmac
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cli.shop import player
from cli.shop import transactions as webhooks
from cli.shop.deliveries import Outgoing, headers
from cli.shop.player import Player, PlayError
from events import codec, envelopes, instants, orders, topics
from imports import cells, transactions
from imports.items import FileError, Problem
from imports.transactions import Transaction
from tests.support import CDNOW

SHOP = "a.myshopify.com"


def _read(tmp_path: Path, text: str, form: str = "csv", currency: str = "USD") -> list[Transaction]:
    path = tmp_path / "file"
    path.write_text(text, encoding="utf-8")
    return transactions.read(path, form, currency).found


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-31", "2026-01-31T12:00:00Z"),
        ("20260131", "2026-01-31T12:00:00Z"),
        ("2026/01/31", "2026-01-31T12:00:00Z"),
        ("2026-01-31T08:30:00Z", "2026-01-31T08:30:00Z"),
        ("2026-01-31 08:30:00", "2026-01-31T08:30:00Z"),
        ("2026-01-31T08:30:00-05:00", "2026-01-31T13:30:00Z"),
    ],
)
def test_a_date_is_noon_and_a_time_without_an_offset_is_utc(text: str, instant: str) -> None:
    assert instants.text(cells.parse_time(text)[0]) == instant


@pytest.mark.parametrize(
    "header",
    [
        "customer,timestamp,amount,currency",
        "Customer ID;Order Date;Total;Currency",
        "\ufeffUSER_ID\tdate\tRevenue\tcurrency-code",
    ],
)
def test_usual_headers_and_separators_are_understood(tmp_path: Path, header: str) -> None:
    separator = next(sign for sign in ",;\t" if sign in header)
    row = separator.join(["17", "2026-01-31", "12.30", "EUR"])
    noon = instants.parse("2026-01-31T12:00:00Z")
    assert _read(tmp_path, f"{header}\n{row}\n") == [Transaction(2, "17", noon, 1230, "EUR")]


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("$1,234.50", "USD", 123450),
        (" 12 ", "USD", 1200),
        ("0", "USD", 0),
        ("€5", "EUR", 500),
        ("1,200", "JPY", 1200),
        ("19,90", "EUR", 1990),
        ("1.234,50 €", "EUR", 123450),
        ("1,234,567.80", "USD", 123456780),
    ],
)
def test_amounts_may_be_written_for_people(tmp_path: Path, amount: str, currency: str, minor: int) -> None:
    found = _read(tmp_path, f'customer,date,amount\n1,2026-01-31,"{amount}"\n', currency=currency)
    assert (found[0].amount, found[0].currency) == (minor, currency)


def test_negative_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text("customer,date,amount\n1,2026-01-31,5\n1,2026-02-01,-5\n")
    found = transactions.read(path, "csv", "USD")
    assert ([row.line for row in found.found], found.negative) == ([2], 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("who,when,what\n", "no column for the customer"),
        ("customer,date,amount\n1,yesterday,5\n", "line 2: the timestamp is not a time"),
        ("customer,date,amount\n1,2026-01-31,much\n", "line 2: the amount is not an amount"),
        ("customer,date,amount\n1,2026-01-31,1.234\n", "more decimals"),
        ("customer,date,amount\n,2026-01-31,1\n", "line 2: no customer"),
        ("customer,date,amount\n1,2026-01-31\n", "line 2: the amount is not an amount"),
        ("customer,date,amount\n1,2026-01-31", "line 2: the file breaks off in it"),
        ("customer,date,amount\n1,2026-01-31,12,50\n", "line 2: it has 4 columns, the header 3"),
        ("customer,date,amount\n", "no transaction"),
        ("", "it is empty"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(FileError, match=says):
        _read(tmp_path, text)


def test_a_header_of_many_columns_is_told_in_a_few_words(tmp_path: Path) -> None:
    header = ",".join(f"Column that an export calls {number}" for number in range(70))
    with pytest.raises(FileError, match="and 66 more") as raised:
        _read(tmp_path, f"{header}\n")
    assert len(str(raised.value)) < 250


def test_a_line_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text("customer,date,amount\n1,2026-01-31,1\n,2026-01-31,1\n2,2026-01-31,x\n3,2026-01-31,3\n")
    found = transactions.read(path, "csv", "USD")
    assert [row.line for row in found.found] == [2, 5]
    assert found.problems == [Problem(3, "no customer"), Problem(4, "the amount is not an amount")]


def test_bytes_that_are_no_text_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(FileError, match="no column"):
        transactions.read(tmp_path / "file", "csv", "USD")


def test_the_cdnow_file_is_6919_orders_of_2357_customers() -> None:
    found = transactions.read(CDNOW, "cdnow", "USD").found
    assert len(found) == 6919
    assert len({row.customer for row in found}) == 2357
    assert sum(row.amount // 100 for row in found) == 239_444
    assert instants.text(found[0].at) == "1997-01-01T12:00:00Z"
    assert (found[0].customer, found[0].amount) == ("4", 2933)


def test_the_full_cdnow_file_has_no_column_for_the_sample(tmp_path: Path) -> None:
    assert _read(tmp_path, "00001 19970101  1   11.77\n", "cdnow")[0].amount == 1177
    with pytest.raises(FileError, match="line 1: not a CDNOW row"):
        _read(tmp_path, "customer,date,amount\n", "cdnow")


# --- webhooks ----------------------------------------------------------------------------------------------------


def _rows(count: int = 200) -> list[Transaction]:
    return [Transaction(n, str(n % 7), n * instants.DAY, n * 100, "USD") for n in range(1, count + 1)]


def test_a_row_is_an_order_that_counts_at_its_own_time() -> None:
    row = Transaction(3, "17", instants.parse("1997-01-01T12:00:00Z"), 2933, "USD")
    sent = webhooks.order_paid(SHOP, row)
    at = instants.text(row.at)
    envelope: dict[str, Any] = {"topic": sent.topic, "shop": SHOP, "webhook_id": sent.webhook_id, "event_id": None}
    envelope |= {"api_version": None, "triggered_at": at, "received_at": at, "payload": sent.payload}
    found, refunds = orders.snapshot(envelopes.read(codec.dumps(envelope), topics.ORDERS), "USD")
    assert (found["customer"], found["base"], found["gross"], found["status"]) == ("17", 2933, 2933, "paid")
    assert (found["processed_at"], sent.triggered_at, refunds) == (row.at, row.at, {})


def test_the_same_row_is_the_same_delivery_and_any_other_is_not() -> None:
    first = [webhooks.order_paid(SHOP, row) for row in _rows()]
    assert first == [webhooks.order_paid(SHOP, row) for row in _rows()]
    assert len({each.webhook_id for each in first}) == len(first)
    row = _rows()[0]
    others = [
        webhooks.order_paid("b.myshopify.com", row),
        webhooks.order_paid(SHOP, row._replace(copy=1)),
        webhooks.order_paid(SHOP, row._replace(amount=1)),
    ]
    assert len({each.payload["id"] for each in (first[0], *others)}) == 4


def test_where_a_row_stands_does_not_matter(tmp_path: Path) -> None:
    rows = ["1,2026-01-31,5", "2,2026-01-31,5", "1,2026-01-31,5"]
    first, again = (
        [webhooks.order_paid(SHOP, row) for row in _read(tmp_path, "\n".join(("customer,date,amount", *each)))]
        for each in (rows, ["9,2026-02-01,1", *reversed(rows)])
    )
    assert len({each.webhook_id for each in first}) == 3  # two rows that are alike are two orders
    assert {each.webhook_id for each in first} < {each.webhook_id for each in again}
    assert len(again) == 4


def test_rows_of_one_order_are_one(tmp_path: Path) -> None:
    header = "order,customer,date,amount"
    rows = ["A,1,2026-01-31,5", "B,2,2026-01-31,5", "A,1,2026-01-31,-2", ",1,2026-01-31,5"]
    found = _read(tmp_path, "\n".join((header, *rows)))
    assert [(row.line, row.customer, row.amount) for row in found] == [(2, "1", 3_00), (3, "2", 5_00), (5, "1", 5_00)]
    changed = [webhooks.order_paid(SHOP, row) for row in (found[0], found[0]._replace(amount=9))]
    assert changed[0].payload["id"] == changed[1].payload["id"]
    assert changed[0].webhook_id != changed[1].webhook_id
    path = tmp_path / "file"
    path.write_text(f"{header}\n{rows[0]}\nA,2,2026-01-31,5\n")
    found_too = transactions.read(path, "csv", "USD")
    assert len(found_too.found) == 1
    assert found_too.problems == [Problem(3, "its order has another customer or currency in line 2")]


def test_customers_that_are_names_get_an_id() -> None:
    ident = transactions.customer_id(SHOP, "anna")
    assert ident == transactions.customer_id(SHOP, "anna")
    assert ident != transactions.customer_id("b.myshopify.com", "anna")
    assert 10**17 <= ident < 10**18
    assert transactions.customer_id(SHOP, "00004") == 4


def test_customers_that_are_addresses_are_told_as_such() -> None:
    order = transactions.order(SHOP, Transaction(2, "Anna@example.com", 0, 1, "USD"))
    assert order["email"] == "Anna@example.com"
    assert "customer" not in order


def test_shuffling_and_duplicating_are_drawn_by_seed() -> None:
    rows = _rows()
    assert webhooks.arrange(rows) == rows
    shuffled = webhooks.arrange(rows, shuffle=7, duplicate_percent=10)
    assert shuffled == webhooks.arrange(rows, shuffle=7, duplicate_percent=10)
    assert shuffled != webhooks.arrange(rows, shuffle=8, duplicate_percent=10)
    counts = Counter(shuffled)
    assert set(counts) == set(rows)
    assert Counter(counts.values()) == {1: 180, 2: 20}


def test_headers_are_shopifys() -> None:
    sent = webhooks.order_paid(SHOP, _rows()[0])
    found = headers(sent, SHOP, "secret", sent.body())
    signature = base64.b64encode(hmac.new(b"secret", sent.body(), sha256).digest()).decode()
    assert found["X-Shopify-Hmac-Sha256"] == signature
    assert found["X-Shopify-Topic"] == "orders/paid"
    assert found["X-Shopify-Triggered-At"] == "1970-01-02T00:00:00Z"


# --- posting -----------------------------------------------------------------------------------------------------

Answer = Callable[[str], int]


@asynccontextmanager
async def _server(answer: Answer) -> AsyncIterator[str]:
    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=answer(request.headers["X-Shopify-Webhook-Id"]))

    application = web.Application()
    application.add_routes([web.post("/webhooks/shopify", take), web.get("/healthz", _healthy)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _healthy(_: web.Request) -> web.Response:
    return web.Response()


def _deliveries(count: int = 100) -> list[Outgoing]:
    return [webhooks.order_paid(SHOP, row) for row in _rows(count)]


def _post(answer: Answer, deliveries: list[Outgoing], done: list[int] | None = None) -> player.Posted:
    async def posting() -> player.Posted:
        async with _server(answer) as url:
            player = Player(url, SHOP, "secret")
            await player.greet()
            return await player.post(deliveries, (done if done is not None else []).append)

    return asyncio.run(posting())


def test_every_delivery_is_posted_once() -> None:
    seen: Counter[str] = Counter()
    done: list[int] = []

    def answer(webhook_id: str) -> int:
        seen[webhook_id] += 1
        return 200

    posted = _post(answer, _deliveries(), done)
    assert (posted.accepted, posted.retried, posted.refused) == (100, 0, {})
    assert set(seen.values()) == {1}
    assert len(seen) == 100
    assert max(done) == 100


def test_what_is_not_durable_is_posted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "_FIRST_PAUSE", 0.001)
    seen: Counter[str] = Counter()

    def answer(webhook_id: str) -> int:
        seen[webhook_id] += 1
        return 503 if seen[webhook_id] <= 2 else 200

    posted = _post(answer, _deliveries())
    assert (posted.accepted, posted.retried) == (100, 200)


def test_it_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "_FIRST_PAUSE", 0.0001)
    with pytest.raises(PlayError, match="answers 503"):
        _post(lambda _: 503, _deliveries(3))


def test_a_wrong_secret_is_said_at_once() -> None:
    with pytest.raises(PlayError, match="does not accept the signature"):
        _post(lambda _: 401, _deliveries())


def test_refusals_are_counted_and_too_many_end_it() -> None:
    refused = {each.webhook_id for each in _deliveries()[:5]}
    posted = _post(lambda webhook_id: 404 if webhook_id in refused else 200, _deliveries())
    assert (posted.accepted, posted.refused) == (95, {404: 5})
    with pytest.raises(PlayError, match="refuses webhooks with status 404"):
        _post(lambda _: 404, _deliveries())


def test_nobody_there_is_said_with_what_to_do() -> None:
    with pytest.raises(PlayError, match="start LoyalNest with `loyalnest up`"):
        asyncio.run(Player("http://127.0.0.1:9", SHOP, "secret").greet())
