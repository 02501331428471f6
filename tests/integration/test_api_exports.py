"""The CSV: its columns, its cells, its size, and whose addresses stand in it."""

import asyncio
import csv
import io
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import httpx
import orjson
import psycopg
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from api import export_streams, exports
from api.context import EXPORTS, EXPORTS_OF_SHOP
from books import contacts
from books.sealed import MasterKeys, seal_bytes
from events.payloads import Contact
from imports import cells
from lake import reading
from tests import stores
from tests.integration.api_world import MASTER, NOW, OTHER, SHOP, World, customer_row, opened, prospect
from tests.integration.test_batch import add_raw

COLUMNS = (
    "customer_id,email_sha256,email_consent,recency_days,frequency,monetary,currency,r,f,m,score,segment_id,segment,"
    "points_balance,points_pending,points_earned,points_spent,points_expired,points_expiring,points_expire_at,"
    "last_order_at,as_of,cut_points_version"
)


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        yield running


def export(world: World, *scopes: str, **parameters: object) -> list[dict[str, str]]:
    answer = world.get("/exports/segments.csv", world.key("export", *scopes), **parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text, newline=""), strict=True))


def test_a_row_to_the_byte(world: World) -> None:
    points = {"pending": 7, "earned": 400, "spent": 200, "expired": 64, "expiring": 40}
    world.customer(
        "820982911946154508",
        contact=world.contact("820982911946154508", "bob@example.com"),
        **points,
        expires_at=datetime(2026, 12, 15, 5, tzinfo=UTC),
    )
    world.customer("9", **prospect(balance=-5))
    answer = world.get("/exports/segments.csv", world.key("export"))
    digest = sha256(b"bob@example.com").hexdigest()
    assert answer.content.decode() == (
        f"{COLUMNS}\r\n"
        f"820982911946154508,{digest},subscribed,12,3,129.90,USD,5,3,3,3.8,seg_533,Active,129,"
        "7,400,200,64,40,2026-12-15T05:00:00Z,2026-11-09T09:30:00Z,2026-11-21T09:30:00Z,default\r\n"
        "9,,,,0,0.00,USD,,,,,seg_000,Prospects,-5,0,0,0,0,0,,,2026-11-21T09:30:00Z,default\r\n"
    )
    assert answer.headers["content-disposition"].startswith('attachment; filename="segments-nest-')


def test_with_the_scope_pii_the_address_takes_the_digests_place(world: World) -> None:
    world.customer("1", contact=world.contact("1", "bob@example.com", "pending"))
    (row,) = export(world, "pii")
    assert ",".join(row) == COLUMNS.replace("email_sha256", "email")
    assert (row["email"], row["email_consent"]) == ("bob@example.com", "pending")


@pytest.mark.parametrize("email", ["=cmd|'/c calc'!a1@x.com", "+1@x.com", "-1@x.com", "@x"])
def test_an_address_that_is_a_formula_is_escaped(world: World, email: str) -> None:
    world.customer("1", contact=world.contact("1", email))
    assert export(world, "pii")[0]["email"] == f"'{email}"
    assert export(world)[0]["email_sha256"] == sha256(email.encode()).hexdigest()


def test_a_segment_named_like_a_formula_is_escaped_and_a_negative_balance_is_not(world: World) -> None:
    world.customer("1", segment="=1+1", balance=-12)
    (row,) = export(world)
    assert (row["segment"], row["points_balance"]) == ("'=1+1", "-12")


def test_a_spreadsheet_keeps_accents_and_every_digit(world: World) -> None:
    """Excel takes a file without a mark for the machine's own encoding, and rounds ids of more than 15 digits."""
    world.customer("7210448301122334", segment="Fidèle à vie")
    answer = world.get("/exports/segments.csv", world.key("export"), excel=True)
    assert answer.content.startswith(b"\xef\xbb\xbfcustomer_id,")
    (row,) = csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline=""), strict=True)
    assert (row["customer_id"], row["segment"]) == ("'7210448301122334", "Fidèle à vie")
    assert cells.resource(row["customer_id"]) == "7210448301122334"  # as it comes back in a file


def test_one_segment_alone_and_no_other_shop(world: World) -> None:
    world.customer("1")
    world.customer("2", **prospect())
    world.customer("3", shop=OTHER)
    assert [row["customer_id"] for row in export(world, segment="Active")] == ["1"]
    for unknown in ("'; DROP TABLE customers --", "champions"):
        answer = world.get("/exports/segments.csv", world.key("export"), segment=unknown)
        assert answer.status_code == 422
        assert "Champions" in answer.json()["detail"]
        assert unknown not in answer.json()["detail"]


def test_who_was_deleted_or_redacted_has_no_address(world: World) -> None:
    for number, changes in (("1", {"deleted": True}), ("2", {"redacted": True}), ("3", {})):
        world.customer(number, contact=world.contact(number, f"{number}@x.com"), **changes)
    world.run(world.services.vault.destroy(SHOP, "2", NOW))
    assert [row["email"] for row in export(world, "pii")] == ["", "", "3@x.com"]


def test_address_and_consent_may_come_of_two_messages(world: World) -> None:
    def sealed(customer_id: str, email: str | None, consent: str | None) -> str:
        found: str = world.run(world.services.vault.seal(SHOP, customer_id, Contact(email, consent)))
        return found

    told = {
        "1": (sealed("1", "1@x.com", None), sealed("1", None, "unsubscribed")),
        "2": (sealed("2", "2@x.com", None), None),
        "3": (None, sealed("3", None, "unsubscribed")),
        "4": (sealed("4", "4@x.com", "subscribed"), None),  # as they were sealed together once
        "5": (sealed("5", "5@x.com", "subscribed"), sealed("5", None, "unsubscribed")),
        "6": (sealed("7", "7@x.com", None), sealed("6", None, "subscribed")),
        "8": (None, None),
    }
    for customer_id, (contact, consent) in told.items():
        world.customer(customer_id, contact=contact, consent=consent)
    assert [(row["email"], row["email_consent"]) for row in export(world, "pii")] == [
        ("1@x.com", "unsubscribed"),
        ("2@x.com", "not_subscribed"),
        ("", "unsubscribed"),
        ("4@x.com", "subscribed"),
        ("5@x.com", "unsubscribed"),
        ("", "subscribed"),
        ("", ""),
    ]


def test_an_address_sealed_for_somebody_else_is_not_shown(world: World) -> None:
    world.contact("1", "1@x.com")
    world.customer("1", contact=world.contact("2", "2@x.com"))
    assert export(world, "pii")[0]["email"] == ""


def test_a_past_day_with_todays_consent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the lake cannot tell, a run does; and of nothing nothing is exported, but said."""
    monkeypatch.setattr(reading, "MOST", -1)
    world.batch(NOW - timedelta(days=1), {"1": "Loyal", "2": "At risk"}, version="v3")
    world.customer("1", segment="Champions", contact=world.contact("1", "1@x.com", "unsubscribed"))
    rows = export(world, "pii", as_of=NOW.isoformat())
    assert [(row["segment"], row["email"], row["email_consent"]) for row in rows] == [
        ("Loyal", "1@x.com", "unsubscribed"),
        ("At risk", "", ""),
    ]
    assert {(row["as_of"], row["cut_points_version"]) for row in rows} == {("2026-11-20T09:30:00Z", "v3")}
    assert [row["customer_id"] for row in export(world, as_of=NOW.isoformat(), segment="At risk")] == ["2"]
    answer = world.get("/exports/segments.csv", world.key("export"), as_of="2026-01-01T00:00:00Z")
    assert answer.status_code == 503


def test_a_past_instant_of_the_lake_with_todays_consent(world: World) -> None:
    with psycopg.connect(world.url, autocommit=True) as connection:
        add_raw(connection, stores.store(1, shop=SHOP))
    one = export(world, as_of=stores.NOW.isoformat())[0]["customer_id"]
    world.customer(one, segment="Champions", contact=world.contact(one, "1@x.com", "unsubscribed"))
    rows = export(world, "pii", as_of=stores.NOW.isoformat())
    told = {row["customer_id"]: (row["email"], row["email_consent"]) for row in rows if row["email_consent"]}
    assert told == {one: ("1@x.com", "unsubscribed")}
    assert len(rows) > 3
    assert {row["currency"] for row in rows} == {"USD"}
    segment = rows[0]["segment"]
    only = export(world, as_of=stores.NOW.isoformat(), segment=segment)
    assert [row["customer_id"] for row in only] == [row["customer_id"] for row in rows if row["segment"] == segment]


def _exporting(world: World) -> int:
    (found,) = world.sql("SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'loyalnest-export'")
    return int(found["n"])


def _asked_at_once(world: World, keys: list[tuple[str, dict[str, str]]]) -> list[Any]:
    """The answers to one export for each (shop, headers), all asked at once and none of them read."""
    url = str(world.client.base_url)

    async def all_of_them() -> list[Any]:
        async with httpx.AsyncClient(base_url=url, timeout=30, limits=httpx.Limits(max_connections=None)) as client:
            requests = [
                client.build_request("GET", f"/v1/shops/{shop}/exports/segments.csv", headers=headers)
                for shop, headers in keys
            ]
            answers = await asyncio.gather(*(client.send(each, stream=True) for each in requests))
            most.append(await asyncio.to_thread(_exporting, world))
            for each in answers:
                await each.aclose()
            return answers

    most: list[int] = []
    answers = asyncio.run(all_of_them())
    assert most[0] <= 2 * EXPORTS  # what reads, and what looks up beside it
    return answers


def test_sixty_exports_at_once_are_as_many_as_are_allowed(world: World) -> None:
    fill(world, 20_000)
    shops = [f"shop-{number}.myshopify.com" for number in range(20)]
    for shop in shops:
        world.program(shop=shop)
    world.sql("UPDATE customers SET shop = 'shop-' || (customer_id::int %% 20) || '.myshopify.com'")
    keys = [(shop, world.key("export", shop=shop)) for shop in shops]
    answers = _asked_at_once(world, keys * 3)
    assert Counter(each.status_code for each in answers) == {200: EXPORTS, 429: 60 - EXPORTS}
    assert {each.headers["retry-after"] for each in answers if each.status_code == 429} == {"30"}
    _all_over(world)


def test_one_shops_exports_leave_room_for_the_others(world: World) -> None:
    fill(world, 20_000)
    world.program(shop=OTHER)
    mine, others = (SHOP, world.key("export")), (OTHER, world.key("export", shop=OTHER))
    answers = _asked_at_once(world, [mine] * 20 + [others])
    assert Counter(each.status_code for each in answers[:-1]) == {200: EXPORTS_OF_SHOP, 429: 20 - EXPORTS_OF_SHOP}
    assert answers[-1].status_code == 200
    _all_over(world)


def test_an_export_that_cannot_begin_gives_its_place_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST", -1)
    headers = world.key("export")
    for _ in range(EXPORTS + 1):
        assert world.get("/exports/segments.csv", headers, as_of="2026-01-01T00:00:00Z").status_code == 503
    assert world.services.exports.taken == 0


@pytest.mark.slow
def test_who_reads_too_slowly_loses_the_export(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """60,000 rows are 8 MB. This client reads none of them: only what the system's own buffers hold is taken."""
    monkeypatch.setattr(exports, "_PATIENCE", 1.0)
    monkeypatch.setattr(exports, "_LEAST_SPEED", 10_000_000)
    fill(world, 60_000)
    headers = world.key("export")
    with world.client.stream("GET", f"/v1/shops/{SHOP}/exports/segments.csv", headers=headers) as answer:
        assert answer.status_code == 200
        _all_over(world, seconds=30)
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


def test_what_a_client_waits_for_us_is_not_its_slowness(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_at_once = contacts.opened

    async def opened_late(*asked: Any) -> Any:
        await asyncio.sleep(0.6)
        return await opened_at_once(*asked)

    monkeypatch.setattr(exports, "_PATIENCE", 0.5)
    monkeypatch.setattr(contacts, "opened", opened_late)
    world.customer("1")
    assert [row["customer_id"] for row in export(world)] == ["1"]


def fill(world: World, customers: int) -> None:
    row = customer_row("")
    with psycopg.connect(world.url) as connection, connection.cursor() as cursor:
        names = ", ".join(row)
        with cursor.copy(f"COPY customers ({names}) FROM STDIN".encode()) as copy:
            for number in range(customers):
                values: dict[str, Any] = {**row, "customer_id": f"{number:08d}"}
                copy.write_row(tuple(values.values()))


@pytest.mark.slow
def test_any_size_takes_the_same_memory(world: World) -> None:
    fill(world, 60_000)
    headers = world.key("export")
    peaks = []
    for segment in ("Champions", "Active"):
        tracemalloc.start()
        rows = 0
        url = f"/v1/shops/{SHOP}/exports/segments.csv"
        with world.client.stream("GET", url, headers=headers, params={"segment": segment}) as answer:
            for chunk in answer.iter_bytes():
                rows += chunk.count(b"\n")  # a part may end between \r and \n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert rows == 60_001
    assert peaks[1] < peaks[0] + 16_000_000  # the whole file is 8 MB, its rows in Python far more
    assert world.services.exports.taken == 0


def test_a_client_that_goes_away_ends_its_export(world: World) -> None:
    fill(world, 20_000)
    headers = world.key("export")
    with world.client.stream("GET", f"/v1/shops/{SHOP}/exports/segments.csv", headers=headers) as answer:
        next(answer.iter_bytes())
    _all_over(world)


def test_an_export_whose_addresses_do_not_come_in_time_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_streams, "READ_SECONDS", 0.5)
    world.customer("1", contact=world.contact("1", "1@x.com"))
    headers = world.key("export")
    with psycopg.connect(world.url) as locking:
        locking.execute("LOCK TABLE customer_keys")
        with world.client.stream("GET", f"/v1/shops/{SHOP}/exports/segments.csv", headers=headers) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                answer.read()
        _all_over(world)


def test_many_are_opened_and_a_redaction_is_heard_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks large enough for other processes; the keys of the last are destroyed once the first has come."""
    monkeypatch.setattr(export_streams, "_CHUNK", 1500)
    fill(world, 6000)
    ids = [f"{number:08d}" for number in range(6000)]
    masters = MasterKeys([MASTER])
    sealed = []
    for ident in ids:
        key = AESGCM.generate_key(256)
        contact = seal_bytes(AESGCM(key), SHOP, ident, orjson.dumps((f"{ident}@x.com", "subscribed")))
        sealed.append((ident, contact, masters.wrap(SHOP, ident, key)))
    with psycopg.connect(world.url, autocommit=True) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY customer_keys (shop, customer_id, wrapped) FROM STDIN") as copy:
            for ident, _, wrapped in sealed:
                copy.write_row((SHOP, ident, wrapped))
        cursor.execute(
            "UPDATE customers AS c SET contact = n.contact FROM unnest(%s::text[], %s::text[]) AS n (id, contact)"
            " WHERE c.customer_id = n.id",
            ([ident for ident, _, _ in sealed], [contact for _, contact, _ in sealed]),
        )
    assert [row["email"] for row in export(world, "pii")] == [f"{ident}@x.com" for ident in ids]

    read, opened_after = asyncio.Event(), contacts.opened
    chunks = 0

    async def destroyed_meanwhile(*asked: Any) -> Any:
        nonlocal chunks
        chunks += 1
        if chunks == 3:
            await asyncio.to_thread(
                world.sql, "UPDATE customer_keys SET wrapped = NULL WHERE customer_id >= %s", ids[3000]
            )
            read.set()
        return await opened_after(*asked)

    monkeypatch.setattr(contacts, "opened", destroyed_meanwhile)
    emails = [row["email"] for row in export(world, "pii")]
    assert read.is_set()
    assert emails == [f"{ident}@x.com" for ident in ids[:3000]] + [""] * 3000


def _all_over(world: World, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while _exporting(world) or world.services.exports.taken:
        assert time.monotonic() < deadline, "an export's connection or its place stayed"
        time.sleep(0.05)


def test_whether_it_would_be_answered_is_told_without_making_it(world: World) -> None:
    path = f"/v1/shops/{SHOP}/exports/segments.csv"
    headers = world.key("export")
    answer, whole = world.client.head(path, headers=headers), world.client.get(path, headers=headers)
    assert (answer.status_code, answer.content) == (200, b"")
    for name in ("content-type", "content-disposition", "cache-control", "content-length"):
        assert answer.headers.get(name) == whole.headers.get(name), name
    for asked, status in (({"segment": "Nobody"}, 422), ({"preset": "klaviyo"}, 403), ({"luck": "1"}, 422)):
        assert world.client.head(path, headers=headers, params=asked).status_code == status
    assert world.client.head(path).status_code == 401
    listed = world.get("/exports", world.key("admin")).json()["exports"]
    assert [(each["way"], each["status"]) for each in listed] == [("stream", "done")]
