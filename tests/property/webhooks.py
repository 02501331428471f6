"""Webhooks for Hypothesis: few instants, few ids, every topic of orders, refunds and customers, so that ties rule.

The payloads hold only fields that we use: of two snapshots that differ in nothing but the payload, its digest decides,
and the oracle takes the digest of what is there.
"""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

Json = dict[str, Any]

SHOP = "hypothetical.myshopify.com"
NOW = datetime(2026, 11, 1, 19, tzinfo=UTC)
#: When all is over: customers are rescored as of this instant, and nobody's `now` lies beyond it.
END = NOW + timedelta(days=3)
US = timedelta(microseconds=1)

#: Instants worth meeting: edges of look-backs, of days, hours and minutes, of DST, and of windows' retention.
POOL = [
    NOW,
    NOW - US,
    NOW - timedelta(minutes=59),
    NOW - timedelta(minutes=16),  # in Kolkata, 00:13 of the next day, in the same hour of UTC as ...
    NOW - timedelta(minutes=46),  # ... 23:44 of the day
    NOW - timedelta(days=1),
    NOW + timedelta(days=2),
    datetime(2026, 11, 1, 3, 59, 59, 999_999, tzinfo=UTC),  # the last of October in New York
    datetime(2026, 11, 1, 5, 30, tzinfo=UTC),  # 01:30 there, the first time
    datetime(2026, 11, 1, 6, 30, tzinfo=UTC),  # and the second
    END - timedelta(days=365),
    END - timedelta(days=365) + US,
    END - timedelta(days=1),
    NOW - timedelta(days=36),
    NOW - timedelta(days=402),
]
ZONES = ["UTC", "America/New_York", "Asia/Kolkata"]
SNAPSHOT_TOPICS = [
    *["orders/create", "orders/paid", "orders/updated", "orders/cancelled"],
    *["orders/fulfilled", "orders/partially_fulfilled"],
]
CUSTOMER_TOPICS = [
    *["customers/create", "customers/update"] * 2,
    *["customers/delete", "customers/redact", "customers/data_request"],
    *["customers/merge"] * 3,
    *["customers_email_marketing_consent/update"] * 2,
]
#: Those that may name an address instead of an id.
BY_ADDRESS = [
    *["customers/create", "customers/update", "customers/redact"],
    "customers_email_marketing_consent/update",
]
STATUSES = ["paid"] * 5 + ["PAID", "partially_paid", "partially_refunded", "refunded", "pending", "voided", "mystified"]
AMOUNTS = ["0.00", "0.99", "10.00", "99.99"]
ORDERS = [2**60, 2**60 + 1]
CUSTOMERS = [7, 8]
#: Who is deleted by a merge: one of the two, or somebody else, through whom chains and circles lead.
GONE = [7, 8, 9, 9]
ADDRESSES = ["mail-" + "a" * 32, "mail-" + "b" * 32]


def thorough(examples: int) -> settings:
    """So many examples; LOYALNEST_TEST_DEPTH times as many when somebody has the time.

    LOYALNEST_TEST_SHRINK=0: a failure is enough, the smallest is not looked for (make mutants).
    """
    depth = int(os.environ.get("LOYALNEST_TEST_DEPTH", "1"))
    unshrunk = (Phase.explicit, Phase.generate)
    return settings(
        max_examples=examples * depth,
        deadline=None,
        phases=unshrunk if os.environ.get("LOYALNEST_TEST_SHRINK") == "0" else tuple(Phase),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


class _At(int):
    """A place for an instant: the index of one of the three that a set of webhooks has."""


def _placed(value: Any, moments: list[str]) -> Any:
    """The value with its instants in their places."""
    if isinstance(value, _At):
        return moments[value % len(moments)]
    if isinstance(value, dict):
        return {name: _placed(each, moments) for name, each in value.items()}
    if isinstance(value, list):
        return [_placed(each, moments) for each in value]
    return value


def _bag(amount: str) -> Json:
    return {"shop_money": {"amount": amount, "currency_code": "USD"}}


def _refund_line(amount: str, form: int) -> Json:
    """As a set beside nonsense, as a plain amount, by price alone, or a gift card's."""
    forms: list[Json] = [
        {"quantity": 1, "subtotal": "0.01", "subtotal_set": _bag(amount), "total_tax": "0.16"},
        {"quantity": 1, "subtotal": amount, "total_tax": "0.01", "total_tax_set": _bag("1.60")},
        {"quantity": 2, "line_item": {"price": "3.33", "quantity": 3, "total_discount": "0.50"}},
        {"quantity": 1, "subtotal": amount, "line_item": {"gift_card": True}},
    ]
    return forms[form]


def _value(amount: str, original: str, form: int) -> Json:
    """An order's value in the shape of today, of some time ago, and of long ago."""
    forms: list[Json] = [
        {"current_subtotal_price_set": _bag(amount), "current_subtotal_price": "0.01", "subtotal_price": original},
        {"current_subtotal_price": amount, "subtotal_price": original},
        {"subtotal_price": original},
    ]
    return forms[form]


def _gift_card(current: int, form: int) -> Json:
    forms: list[Json] = [{}, {"total_discount": "2.00"}, {"discount_allocations": [{"amount": "1.00"}]}]
    return {"gift_card": True, "price": "3.00", "quantity": 2, "current_quantity": current, **forms[form]}


def _goods(quantity: int, current: int | None, taxes: list[str] | None) -> Json:
    """A line that is no gift card: how many pieces are left, and its taxes, or neither."""
    line: Json = {"price": "9.00", "quantity": quantity}
    line |= {} if current is None else {"current_quantity": min(current, quantity)}
    return line | ({} if taxes is None else {"tax_lines": [{"price": tax} for tax in taxes]})


# The strategies stand here once and for all: making them anew for each example takes most of the time there is.


def _any(make: Callable[..., Any], *parts: Sequence[Any]) -> st.SearchStrategy[Any]:
    """What any combination of the parts makes, by one choice: to choose takes longer than to fold what is chosen.

    A byte for each part. (Of integers in a wide range Hypothesis likes the small ones best; bytes are all alike.)
    """

    def made(chosen: bytes) -> Any:
        return make(*(part[byte % len(part)] for part, byte in zip(parts, chosen, strict=True)))

    return st.binary(min_size=len(parts), max_size=len(parts)).map(made)


#: What a payload lacks.
_ABSENT = object()


def _present(payload: Json) -> Json:
    return {name: value for name, value in payload.items() if value is not _ABSENT}


def _or_absent(*values: Any) -> list[Any]:
    """One of the values, half of the time."""
    return [*[_ABSENT] * len(values), *values]


_AT = [_At(0), _At(1), _At(2)]
_order = st.sampled_from(ORDERS)

_ADJUSTMENT = _any(
    lambda amount, named: {"amount": amount, **named},
    ["-0.01", "-10.00", "-99.99", "0.00", "2.50", "-1e"],
    [
        {"kind": "refund_discrepancy", "reason": "Refund discrepancy"},
        {"reason": "Refund discrepancy"},
        {"kind": None, "reason": "REFUND_DISCREPANCY"},
        {"kind": "shipping_refund", "reason": "Shipping refund"},
        {"reason": None},
    ],
)
_TRANSACTION = _any(
    lambda kind, status, amount, currency: {"kind": kind, "status": status, "amount": amount, **currency},
    ["refund"] * 3 + ["REFUND", "void"],
    ["success"] * 3 + ["SUCCESS", "pending"],
    [*AMOUNTS, "0.001"],
    [{}, {}, {"currency": "USD"}, {"currency": None}, {"currency": "EUR"}],
)

REFUND = st.builds(
    lambda plain, lines, more: {**plain, "refund_line_items": lines, **more},
    _any(lambda refund, created_at: {"id": refund, "created_at": created_at}, [51, 52], _AT),
    st.lists(_any(_refund_line, AMOUNTS, range(4)), max_size=2),
    st.fixed_dictionaries(
        {},
        optional={
            "order_adjustments": st.lists(_ADJUSTMENT, max_size=2),
            "transactions": st.none() | st.lists(_TRANSACTION, max_size=2),
        },
    ),
)

_CARD = _any(_gift_card, range(3), range(3))
_TAXES = st.none() | st.lists(st.sampled_from(["0.05", "1.91", "12.00"]), max_size=2)
_GOODS = st.builds(
    lambda pieces, taxes: _goods(pieces[0], pieces[1], taxes),
    _any(lambda *pieces: pieces, range(4), [*[None] * 4, 0, 1, 2, 3]),
    _TAXES,
)

_ALWAYS = _any(
    lambda order, created_at, processed_at, status, customer, *value: {
        "id": order,
        "created_at": created_at,
        "processed_at": processed_at,
        "financial_status": status,
        "customer": customer and {"id": customer},
        "currency": "USD",
        **_value(*value),
    },
    ORDERS,
    _AT,
    [*[None] * 3, *_AT],
    STATUSES,
    [None, *CUSTOMERS * 2],
    *(AMOUNTS, AMOUNTS, range(3)),
)
_SOMETIMES = _any(
    lambda updated_at, cancelled_at, test, included, tax, contact, consent, address: _present(
        {
            "updated_at": updated_at,
            "cancelled_at": cancelled_at,
            "test": test,
            "taxes_included": included,
            "total_tax": tax,
            "contact": contact,
            "consent": consent,
            "address": address,
        }
    ),
    _or_absent(*[None] * 3, *_AT),
    _or_absent(*[None] * 9, *_AT),
    _or_absent(False, False, False, True),
    _or_absent(True, True, False, None),
    _or_absent("0.00", "1.60", "16.00"),
    _or_absent("v1.three", "v1.four"),
    _or_absent("v1.agreed"),
    _or_absent(*ADDRESSES),
)
CODES = ["ln-1", "LN-2"]

_LISTS = st.fixed_dictionaries(
    {},
    optional={
        "line_items": st.lists(st.one_of(_CARD, _GOODS, _GOODS), max_size=3),
        "refunds": st.lists(REFUND, max_size=2, unique_by=lambda refund: refund["id"]),
        "discount_codes": st.lists(st.sampled_from(CODES).map(lambda code: {"code": code}), max_size=2),
    },
)

SNAPSHOT = st.builds(lambda always, sometimes, lists: {**always, **sometimes, **lists}, _ALWAYS, _SOMETIMES, _LISTS)


#: Whom a customer's webhook is about: somebody by id, or (None) whoever is known by an address alone.
PERSONS = [*CUSTOMERS * 2, None]


def _about(topic: str, person: int | None, more: Json) -> tuple[str, Json]:
    customer = person or CUSTOMERS[0]
    if person is None and topic in BY_ADDRESS:
        named = {"address": more.get("address", ADDRESSES[0])}
        if topic == "customers/redact":
            return topic, {"shop_domain": SHOP, **named}
        names = ["contact", "consent", "consent_at", *(["updated_at"] if topic.startswith("customers/") else [])]
        return topic, {**named, **{name: each for name, each in more.items() if name in names}}
    if topic in ("customers/redact", "customers/data_request"):
        return topic, {"shop_domain": SHOP, "customer": {"id": customer}}
    if topic == "customers/delete":
        return topic, {"id": customer}
    if topic == "customers/merge":
        kept = more["kept"] or customer
        return topic, {
            "admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{kept}",
            "admin_graphql_api_customer_deleted_id": f"gid://shopify/Customer/{more['gone']}",
            "status": more["status"],
        }
    more = {name: each for name, each in more.items() if name not in ("kept", "gone", "status")}
    if topic == "customers_email_marketing_consent/update":
        return topic, {"customer_id": customer, **{name: each for name, each in more.items() if name != "updated_at"}}
    return topic, {"id": customer, **more}


_told = _any(
    lambda kept, gone, status, updated_at, contact, consent, consent_at, address: _present(
        {
            "kept": kept,
            "gone": gone,
            "status": status,
            "updated_at": updated_at,
            "contact": contact,
            "consent": consent,
            "consent_at": consent_at,
            "address": address,
        }
    ),
    [None, None, 9],
    GONE,
    ["completed", "completed", "completed", "failed"],
    _or_absent(*_AT),
    _or_absent("v1.one", "v1.two", None),
    _or_absent("v1.yes", "v1.no"),
    _or_absent(*_AT),
    _or_absent(*ADDRESSES),
)


def _whole(named: tuple[str, _At], snapshot: Json) -> tuple[str, Json]:
    """A cancelled order says when it was cancelled, or it is none."""
    topic, at = named
    if topic == "orders/cancelled" and snapshot.get("cancelled_at") is None:
        return topic, {**snapshot, "cancelled_at": at}
    return topic, snapshot


_snapshot = st.builds(_whole, _any(lambda *named: named, SNAPSHOT_TOPICS, _AT), SNAPSHOT)
_refund = st.builds(lambda refund, order: ("refunds/create", {**refund, "order_id": order}), REFUND, _order)
_other = st.one_of(
    _order.map(lambda each: ("orders/delete", {"id": each})),
    _order.map(lambda each: ("orders/edited", {"order_edit": {"id": 9, "order_id": each}})),
    st.builds(
        lambda named, told: _about(named[0], named[1], told),
        _any(lambda *named: named, CUSTOMER_TOPICS, PERSONS),
        _told,
    ),
)


#: Awards: few names, so that bodies differ under one.
_award = _any(
    lambda customer, name, at, points, reason, earned, voided: (
        "account/award",
        {
            "customer_id": customer,
            "award_id": name,
            "at": at,
            "points": points,
            "reason": reason,
            "source": "manual",
            "counts_as_earned": earned,
            **({"voided": True} if voided else {}),
        },
    ),
    CUSTOMERS + GONE,
    ["one", "two", "three"],
    _AT,
    [5, 40, -7, -30, 0],
    ["goodwill", "birthday"],
    [True, False],
    [False, False, False, True],
)


def _decided(customer: int, name: str, at: _At, accepted: bool, reward: str) -> tuple[str, Json]:
    """What was decided of a request: of one the same, however often it is told."""
    cost = {"one": 3, "two": 50}[name] + customer
    told = {"customer_id": customer, "request_id": name, "reward_id": reward, "cost": cost, "seq": 1, "balance": 9}
    return "account/decision", told | {"decided_at": at, "requested_at": at, "accepted": accepted, "forced": False}


#: What is said of requests. (That they were asked says nothing: it stands in what was decided.)
_DECISIONS = [
    _decided(customer, name, _At(at), accepted, reward)
    for customer in CUSTOMERS
    for name, at, accepted, reward in (("one", customer, True, "ten"), ("two", 1, customer == 7, "kept"))
]
_redeeming = st.one_of(
    st.sampled_from(_DECISIONS),
    _any(
        lambda customer, name, why: ("account/cancel", {"customer_id": customer, "request_id": name, "reason": why}),
        CUSTOMERS,
        ["one", "two", "two", "three"],
        ["unused", "changed my mind"],
    ),
    _any(
        lambda customer, name, attempt, code, until: (
            "account/fulfilment",
            {"customer_id": customer, "request_id": name, "attempt": attempt}
            | ({"state": "issued", "code": code} if code else {"state": "failed"})
            | ({"valid_until": until} if until is not None else {}),
        ),
        CUSTOMERS,
        ["one", "two"],
        [0, 1],
        [*CODES, *CODES, None],
        [None, *_AT],
    ),
)


def _envelope(said: tuple[str, Json], sent: tuple[str, Any, Any]) -> Json:
    webhook_id, triggered_at, received_at = sent
    return {
        "topic": said[0],
        "shop": SHOP,
        "webhook_id": webhook_id,
        "event_id": None,
        "api_version": "2026-07",
        "triggered_at": triggered_at,
        "received_at": received_at,
        "payload": said[1],
    }


def about(topic: str, payload: Json) -> Json:
    """One webhook that names no instant but its payload's."""
    return _envelope((topic, payload), ("a", text(NOW), text(NOW)))


#: Its id, when it was triggered, and when it was received.
_sent = _any(lambda *said: said, ["a", "b", "B", "ab"], _AT, _AT)
ENVELOPE = st.builds(_envelope, st.one_of(_snapshot, _snapshot, _snapshot, _refund, _other, _award, _redeeming), _sent)

#: Webhooks of one customer.
ABOUT = st.builds(
    lambda topic, told, sent: _envelope(_about(topic, CUSTOMERS[0], told), sent),
    st.sampled_from(CUSTOMER_TOPICS),
    _told,
    _sent,
).map(lambda each: _placed(each, [text(NOW), text(NOW - US), text(POOL[2])]))

_MOMENTS = st.lists(st.sampled_from(POOL), min_size=3, max_size=3)
_SENT = st.lists(ENVELOPE, max_size=15)
#: For each order a snapshot by each customer.
_OWNED = st.tuples(*(st.tuples(SNAPSHOT, _sent) for _ in ORDERS * len(CUSTOMERS)))


@st.composite
def envelopes(draw: st.DrawFn) -> list[Json]:
    """Webhooks of two orders, each of which both customers had; at most three instants in all."""
    moments = [text(at) for at in draw(_MOMENTS)]
    found = list(draw(_SENT))
    owners = [(order, customer) for order in ORDERS for customer in CUSTOMERS]
    for (order, customer), (snapshot, sent) in zip(owners, draw(_OWNED), strict=True):
        payload = {**snapshot, "id": order, "customer": {"id": customer}}
        found.append(_envelope(("orders/updated", payload), sent))
    placed: list[Json] = _placed(found, moments)
    return placed


#: (refunds, taxes)
POLICIES = st.sampled_from(list(product(("goods", "goods_and_adjustments", "money"), ("as_priced", "excluded"))))


def _spans(lengths: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Holds or lives: from when each is in force, and how long it is."""
    starts = st.none() | st.sampled_from(POOL).map(text)
    return st.lists(st.tuples(starts, lengths), max_size=3, unique_by=lambda each: each[0])


def _expiry(lives: list[Any]) -> list[Json]:
    """Lives of points, or how long a customer may be inactive."""
    return [
        {"effective_from": start, "inactive_days": days}
        if how == "inactive"
        else {"effective_from": start, "life_days": days, "calendar": how}
        for start, (days, how) in lives
    ]


_DAYS = st.sampled_from([1, 2, 30, 400, None])
_LIVES = _spans(st.tuples(_DAYS, st.sampled_from(["day", "day", "year"])))
#: How long a customer may be inactive; null, that points do not run out, is a life.
INACTIVE = _spans(st.tuples(st.sampled_from([30, 36, 300, 400]), st.just("inactive")) | st.just((None, "day")))

_RATE = st.sampled_from(["0", "0.333", "1", "1.5", "10"])

#: Of two rewards one keeps its points when the order that used it is void.
REWARDS = [
    {"reward_id": name, "effective_from": None, "cost": 10, "kind": "shipping", "name": name, "on_void": on_void}
    for name, on_void in (("ten", "return"), ("kept", "keep"))
]

#: A shop's program, as the oracle takes it; its rules change at the instants at which orders are processed.
PROGRAM = st.builds(
    lambda ever, rules, policies, zone, look_back, holds, lives: {
        "currency": "USD",
        "zone": zone,
        "look_back_days": look_back,
        "rules": [{"effective_from": start, "points_per_unit": rate} for start, rate in [(None, ever), *rules]],
        "policies": [
            {"effective_from": start, "refunds": refunds, "taxes": taxes} for start, (refunds, taxes) in policies
        ],
        "holds": [{"effective_from": start, "hold_days": days} for start, days in holds],
        "expiry": _expiry(lives),
        "rewards": REWARDS,
    },
    _RATE,
    st.lists(st.tuples(st.sampled_from(POOL).map(text), _RATE), max_size=2),
    st.lists(
        st.tuples(st.none() | st.sampled_from(POOL).map(text), POLICIES), max_size=3, unique_by=lambda each: each[0]
    ),
    st.sampled_from(ZONES),
    st.sampled_from([365, 1, None]),
    st.just([]) | _spans(st.sampled_from([0, 1, 2, 40])),
    st.just([]) | _LIVES | INACTIVE,
)


@st.composite
def deliveries(draw: st.DrawFn, sent: list[Json]) -> list[Json]:
    """The same webhooks in any order, some of them more than once."""
    order = draw(st.permutations(range(len(sent))))
    twice = draw(st.lists(st.integers(0, len(sent) - 1), max_size=6))
    return [sent[each] for each in [*order[: len(order) // 2], *twice, *order[len(order) // 2 :]]]
