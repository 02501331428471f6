"""docs/meaning.md's worked examples, through the folds."""

from pathlib import Path
from typing import Any

from events import codec, instants, keys, topics
from events.messages import Message
from events.programs import Program
from events.webhook_topics import TOPICS
from tables import chunks, windows
from tables.reference import Reference
from tables.state import Values
from tests.harness import key_of

SHOP = "ada.myshopify.com"
PROGRAM = {
    "shop": SHOP,
    "currency": "USD",
    "rules": [
        {"points_per_unit": "1"},
        {"points_per_unit": "1.5", "effective_from": "2026-09-01T00:00:00Z"},
    ],
}


def order(number: int, at: str, amount: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": number,
        "created_at": at,
        "updated_at": at,
        "processed_at": at,
        "financial_status": "paid",
        "currency": "USD",
        "current_subtotal_price": amount,
        "subtotal_price": amount,
        "customer": {"id": 1815},
        "line_items": lines,
        "refunds": [],
    }


def refund(at: str) -> dict[str, Any]:
    line = {"quantity": 1, "subtotal_set": {"shop_money": {"amount": "30.00", "currency_code": "USD"}}}
    return {"id": 9, "order_id": 2, "created_at": at, "refund_line_items": [line]}


def envelope(topic: str, at: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "topic": topic,
        "shop": SHOP,
        "webhook_id": f"w{topic}{at}",
        "event_id": None,
        "api_version": None,
        "triggered_at": at,
        "received_at": at,
        "payload": payload,
    }


FIRST, SECOND, REFUNDED = "2026-03-02T12:00:00Z", "2026-10-20T09:30:00Z", "2026-11-05T10:00:00Z"
GIFT_CARD = {"gift_card": True, "price": "20.00", "quantity": 1, "current_quantity": 1}
WEBHOOKS = [
    envelope("orders/paid", FIRST, order(1, FIRST, "80.00", [])),
    envelope("orders/paid", SECOND, order(2, SECOND, "150.00", [GIFT_CARD])),
    envelope("refunds/create", REFUNDED, refund(REFUNDED)),
]


def received(topic: str, key: str, value: Any) -> chunks.Received:
    return chunks.Received(topic, 0, 0, 4_102_444_800_000, key.encode(), codec.dumps(value))


def fold(chunk: Any, batch: list[chunks.Received]) -> list[Message]:
    for each in batch:
        chunk.take(each)
    chunk.finish()
    outputs: list[Message] = chunk.outputs
    return outputs


def folded(program: dict[str, Any], envelopes: list[dict[str, Any]], as_of: str) -> list[Message]:
    """What the customer fold makes of it all, and of a batch as of an instant."""
    reference = Reference()
    reference.put_program(Program.model_validate(program))
    sent = [received(TOPICS[each["topic"]].stream, key_of(each), each) for each in envelopes]
    facts = fold(chunks.OrderChunk({}, reference, 0, 1), sent)
    rescore = {"shop": SHOP, "as_of": as_of, "version": "default", "slice": 0, "slices": 1}
    asked = [received(each.topic, each.key, codec.loads(each.value)) for each in facts]
    asked.append(received(topics.RESCORE, keys.join(SHOP, "run"), rescore))
    return fold(chunks.CustomerChunk(Values(), reference, 0, 1, windows.Partial()), asked)


def test_ada() -> None:
    outputs = folded(PROGRAM, WEBHOOKS, "2026-11-21T00:00:00Z")

    *_, row = [codec.loads(each.value) for each in outputs if each.topic == topics.CUSTOMER_ROWS]
    assert (row["balance"], row["recency_days"], row["frequency"], row["monetary"]) == (230, 31, 2, 180_00)
    standing = row["standing"]
    assert (standing["r"], standing["f"], standing["m"], standing["score"]) == (4, 2, 3, "3.1")
    assert (standing["segment_id"], standing["segment"]) == ("seg_423", "Active")
    points = [codec.loads(each.value) for each in outputs if each.topic == topics.POINTS]
    assert [(each["earned"], each["reversed"]) for each in points] == [(80, 0), (195, 0), (195, 45)]
    days = [codec.loads(each.value) for each in outputs if each.topic == topics.WINDOWS]
    (day,) = [each for each in days if each["size"] == "day" and each["start"] == "2026-10-20T00:00:00Z"]
    names = ("orders", "net", "points_earned", "points_reversed", "customers")
    assert tuple(day[name] for name in names) == (1, 100_00, 195, 45, 1)
    assert instants.parse(row["last_order_at"]) == instants.parse(SECOND)


# --- what can be spent -------------------------------------------------------------------------------------------

BEAS = {
    "shop": SHOP,
    "currency": "USD",
    "zone": "Europe/Berlin",
    "rules": [{"points_per_unit": "1"}],
    "holds": [{"hold_days": 14}],
    "expiry": [{"life_days": 60, "calendar": "day"}],
}


def award(name: str, at: str, points: int) -> dict[str, Any]:
    return envelope("account/award", at, {"customer_id": 1815, "award_id": name, "at": at, "points": points})


def redeemed(name: str, at: str, cost: int) -> dict[str, Any]:
    decision = {"decided_at": at, "requested_at": at, "accepted": True, "forced": False, "seq": 1, "balance": 270}
    payload = {"customer_id": 1815, "request_id": name, "reward_id": "ten", "cost": cost, **decision}
    return envelope("account/decision", at, payload)


def given_back(at: str, snapshot: dict[str, Any]) -> dict[str, Any]:
    changed = {"updated_at": at, "current_subtotal_price": "0.00", "financial_status": "refunded"}
    return envelope("orders/updated", at, {**snapshot, **changed})


JUNE, JULY = "2026-06-01T10:00:00Z", "2026-07-01T10:00:00Z"
MIDNIGHT = "2026-11-14T23:00:00Z"

#: What happened in each of the table's rows.
HAPPENED: list[list[dict[str, Any]]] = [
    [envelope("orders/paid", JUNE, order(1, JUNE, "100.00", []))],
    [envelope("orders/paid", JULY, order(2, JULY, "200.00", []))],
    [award("mistake", "2026-07-15T10:00:00Z", -130)],
    [given_back("2026-08-20T08:00:00Z", order(2, JULY, "200.00", []))],
    [award("birthday", "2026-09-01T09:00:00Z", 40)],
    [],
    [],
    [award("again", MIDNIGHT, -5)],
]


CEMS = {**BEAS, "expiry": [{"inactive_days": 60}]}
NOVEMBER = "2026-11-30T23:00:00Z"
CEMS_SECOND = "2026-07-20T10:00:00Z"

CEM: list[list[dict[str, Any]]] = [
    [envelope("orders/paid", JUNE, order(1, JUNE, "100.00", []))],
    [envelope("orders/paid", CEMS_SECOND, order(2, CEMS_SECOND, "200.00", []))],
    [award("mistake", "2026-08-10T08:00:00Z", -30)],
    [redeemed("ten", "2026-09-10T08:00:00Z", 100)],
    [given_back("2026-09-20T08:00:00Z", order(2, CEMS_SECOND, "200.00", []))],
    [award("birthday", "2026-10-01T09:00:00Z", 50)],
    [],
    [envelope("orders/paid", NOVEMBER, order(3, NOVEMBER, "10.00", []))],
]


def table_rows(begins: str, ends: str) -> list[list[str]]:
    """The cells of a table of docs/meaning.md that stands between these words."""
    told = (Path(__file__).parents[2] / "docs" / "meaning.md").read_text(encoding="utf-8")
    lines = [line for line in told.partition(begins)[2].partition(ends)[0].splitlines() if "|" in line]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def instant(cell: str) -> str | None:
    return f"{cell.replace(' ', 'T')}:00Z" if cell else None


Totals = dict[tuple[str, str], int]


def held(
    program: dict[str, Any], rows: list[list[str]], happened: list[list[dict[str, Any]]]
) -> tuple[Totals, dict[str, int]]:
    """Holds each row of a table against the folds; of the last of them the ledger, and what ran out by day."""
    assert len(rows) == len(happened)
    totals: Totals = {}
    days: dict[str, int] = {}
    for at, (as_of, _, *figures, ends) in enumerate(rows, 1):
        so_far = [each for several in happened[:at] for each in several]
        outputs = folded(program, so_far, instant(as_of) or "")
        *_, row = [codec.loads(each.value) for each in outputs if each.topic == topics.CUSTOMER_ROWS]
        names = ("balance", "pending", "earned", "spent", "expired", "expiring")
        assert [row[name] for name in names] == [int(each.replace("−", "-")) for each in figures], as_of
        assert (row["now"], row["expires_at"]) == (instant(as_of), instant(ends)), as_of
        told = [codec.loads(each.value) for each in outputs if each.topic == topics.POINTS]
        days = {each["day"]: each["points"] for each in told if each["type"] == "points.expired"}
        totals = {
            (each["source"], each["source_id"]): each["total"] for each in told if each["type"] != "points.expired"
        }
        assert sum(totals.values()) - sum(days.values()) == row["balance"] + row["pending"], as_of
    return totals, {day: points for day, points in days.items() if points}


def test_bea() -> None:
    totals, days = held(BEAS, table_rows("Bea's shop", "Her ledger"), HAPPENED)
    assert totals == {
        ("order", "1"): 100,
        ("order", "2"): 0,
        ("deduction", "mistake"): -130,
        ("award", "birthday"): 40,
        ("deduction", "again"): -5,
    }
    assert days == {"2026-11-15": 10}, "of the first order's, spent by the deduction, nothing was left"


def test_cem() -> None:
    totals, days = held(CEMS, table_rows("Cem's shop", "His ledger"), CEM)
    assert days == {"2026-12-01": 20}
    assert totals == {
        ("order", "1"): 100,
        ("order", "2"): 0,
        ("deduction", "mistake"): -30,
        ("redeem", "ten"): -100,
        ("award", "birthday"): 50,
        ("order", "3"): 10,
    }
