"""docs/meaning.md's worked example, through the folds."""

from typing import Any

from events import codec, instants, keys, topics
from events.messages import Message
from events.programs import Program
from tables import chunks, windows
from tables.reference import Reference
from tables.state import Values

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


FIRST, SECOND, REFUNDED = "2026-03-02T12:00:00Z", "2026-10-20T09:30:00Z", "2026-11-05T10:00:00Z"
GIFT_CARD = {"gift_card": True, "price": "20.00", "quantity": 1, "current_quantity": 1}
WEBHOOKS = [
    ("orders/paid", 1, FIRST, order(1, FIRST, "80.00", [])),
    ("orders/paid", 2, SECOND, order(2, SECOND, "150.00", [GIFT_CARD])),
    ("refunds/create", 2, REFUNDED, refund(REFUNDED)),
]


def received(topic: str, key: str, value: Any) -> chunks.Received:
    return chunks.Received(topic, 0, 0, 4_102_444_800_000, key.encode(), codec.dumps(value))


def fold(chunk: Any, batch: list[chunks.Received]) -> list[Message]:
    for each in batch:
        chunk.take(each)
    chunk.finish()
    outputs: list[Message] = chunk.outputs
    return outputs


def test_ada() -> None:
    reference = Reference()
    reference.put_program(Program.model_validate(PROGRAM))
    sent = [
        received(
            topics.ORDERS,
            keys.join(SHOP, str(number)),
            {
                "topic": topic,
                "shop": SHOP,
                "webhook_id": f"w{at}",
                "event_id": None,
                "api_version": None,
                "triggered_at": at,
                "received_at": at,
                "payload": payload,
            },
        )
        for topic, number, at, payload in WEBHOOKS
    ]
    facts = fold(chunks.OrderChunk({}, reference, 0, 1), sent)
    rescore = {"shop": SHOP, "as_of": "2026-11-21T00:00:00Z", "version": "default", "slice": 0, "slices": 1}
    asked = [received(each.topic, each.key, codec.loads(each.value)) for each in facts]
    asked.append(received(topics.RESCORE, keys.join(SHOP, "run"), rescore))
    outputs = fold(chunks.CustomerChunk(Values(), reference, 0, 1, windows.Partial()), asked)

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
