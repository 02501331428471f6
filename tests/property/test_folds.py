"""The folds, one by one: an order's state is a join, its revision grows with it, points and digits are as told."""

import json
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from events import envelopes, instants, money, topics
from events.announcements import succeed, tag
from events.errors import BadEvent
from events.programs import CutPoints, Policies, Policy, Program, Rates, Rule, default_cut_points
from tables import contributions, customers, orders, rfm
from tables.reference import ShopReference
from tests import oracle
from tests.property import webhooks
from tests.property.webhooks import ORDERS, SHOP, thorough

Json = dict[str, Any]

# Orders

GOODS = Policies(Program(shop=SHOP, currency="USD"))


def webhooks_of_one_order(sent: list[Json]) -> list[envelopes.Webhook]:
    """All that are an order's, told about one order, without those that concern customers."""
    found = []
    for each in sent:
        if each["topic"].startswith(("customers", "account")):
            continue
        payload = {name: value for name, value in each["payload"].items() if name not in ("id", "order_id")}
        name = {"refunds/create": "order_id"}.get(each["topic"], "id")
        if name == "order_id":
            payload["id"] = each["payload"]["id"]
        found.append(
            envelopes.read(json.dumps({**each, "payload": {**payload, name: ORDERS[0]}}).encode(), topics.ORDERS)
        )
    return found


def state_of(said: list[envelopes.Webhook], state: orders.OrderState | None = None) -> orders.OrderState:
    found = state or orders.initial()
    for each in said:
        found = orders.apply(found, each, "USD")
    return found


def covered(state: orders.OrderState) -> Any:
    """What a revision is a function of."""
    assert state["snapshot"] is not None
    return (
        state["snapshot"],
        state["refunds"],
        state["cancelled"],
        state["deleted_at"] > 0,
        orders.changed_at(state, state["snapshot"]),
    )


def worth(state: orders.OrderState, policies: Policies = GOODS) -> dict[str, Any]:
    """What the order tells each customer, but for what may change under one revision."""
    told = orders.facts(SHOP, str(ORDERS[0]), "USD", state, policies)
    growing = ("now", "homes", "codes", "addresses", "contact", "consent")
    return {fact["customer_id"]: {**fact, **dict.fromkeys(growing)} for fact in told}


@thorough(400)
@given(sent=webhooks.envelopes(), data=st.data())
def test_an_orders_state_is_a_join_whose_revision_grows_with_it(sent: list[Json], data: st.DataObject) -> None:
    """Two laws of the same webhooks: to draw them takes longer than to try either."""
    said = webhooks_of_one_order(sent)
    state = state_of(said)
    assert state_of(data.draw(st.permutations(said + said[::2]))) == state
    assert state_of(said, state) == state, "what is known changes nothing"
    cut = data.draw(st.integers(0, len(said)))
    assert state_of(said[:cut], state_of(said[cut:])) == state, "however it is parted"
    assert json.loads(json.dumps(state)) == state, "and as it is kept"

    refunds, taxes = data.draw(webhooks.POLICIES)
    policy = Policy(refunds=refunds, taxes=taxes)
    policies = Policies(Program(shop=SHOP, currency="USD", policies=(policy,)))
    state, before = orders.initial(), None
    for each in data.draw(st.permutations(said)):
        state = orders.apply(state, each, "USD")
        if state["snapshot"] is None:
            continue
        revision = orders.revision(state, state["snapshot"])
        if before is not None:
            old, old_revision = before
            assert (revision > old_revision) == (covered(state) != covered(old))
            assert revision >= old_revision
            if revision == old_revision:
                known = worth(old, policies)
                now = worth(state, policies)
                assert {customer: fact for customer, fact in now.items() if customer in known} == known
        before = state, revision


@pytest.mark.parametrize("ids", [("a", "aa"), ("a", "a!"), ("A", "a"), ("!", "~"), ("a~", "b")])
def test_revisions_sort_as_webhook_ids_do(ids: tuple[str, str]) -> None:
    def revision(webhook_id: str) -> str:
        payload = {"id": 1, "created_at": "2026-01-01T00:00:00Z", "subtotal_price": "1.00"}
        said = envelopes.Webhook("orders/paid", SHOP, webhook_id, 5, 5, payload)
        state = orders.apply(orders.initial(), said, "USD")
        assert state["snapshot"] is not None
        return orders.revision(state, state["snapshot"])

    assert revision(ids[0]) < revision(ids[1])


def test_only_the_owner_gets_something_and_all_that_ever_were_get_a_fact() -> None:
    def said(customer: int | None, at: str) -> envelopes.Webhook:
        owner = None if customer is None else {"id": customer}
        payload = {"id": 1, "created_at": at, "updated_at": at, "customer": owner, "subtotal_price": "1.00"}
        return envelopes.Webhook("orders/paid", SHOP, "w", 5, 5, {**payload, "financial_status": "paid"})

    state = state_of(
        [said(7, "2026-01-03T00:00:00Z"), said(8, "2026-01-02T00:00:00Z"), said(None, "2026-01-01T00:00:00Z")]
    )
    found = worth(state)
    assert {customer: fact["net"] for customer, fact in found.items()} == {"7": 100, "8": 0, "guest-55": 0}
    assert len({fact["revision"] for fact in found.values()}) == 1
    assert found["7"]["homes"] is None
    days = [instants.parse(f"2026-01-0{day}T00:00:00Z") for day in (1, 2, 3)]
    assert orders.facts(SHOP, "1", "USD", state, GOODS)[0]["homes"] == days


# Customers: a home has the entry of the highest revision, whatever came first.


class Flat:
    """A tree that never splits needs no nodes."""

    def get(self, chunk: int) -> contributions.Node:
        raise AssertionError

    put = add = drop = get


def shop_reference(**changes: Any) -> ShopReference:
    return ShopReference.of(Program.model_validate({"shop": SHOP, "currency": "USD", **changes}))


@thorough(100)
@given(sent=webhooks.envelopes(), data=st.data())
def test_facts_of_an_order_may_come_in_any_order(sent: list[Json], data: st.DataObject) -> None:
    told, state = [], orders.initial()
    for each in webhooks_of_one_order(sent):
        state = orders.apply(state, each, "USD")
        told += [fact for fact in orders.facts(SHOP, "1", "USD", state, GOODS) if fact["customer_id"] == "7"]
    shop = shop_reference()
    nodes: Any = Flat()
    found = []
    for facts in (told, data.draw(st.permutations(told + told[::2]))):
        customer = customers.initial()
        for fact in facts:
            for _ in customers.file(customer, nodes, fact, shop):
                pass
        found.append(customer)
    assert found[0] == found[1]
    if told:
        entries = found[0]["tree"]["e"]
        assert len([each for each in entries if each[contributions.EARNED]]) <= 1, "an order earns at one home"
        assert {each[contributions.REVISION] for each in entries} == {max(fact["revision"] for fact in told)}


@thorough(150)
@given(sent=st.lists(webhooks.ABOUT, max_size=8), data=st.data())
@example(
    sent=[
        webhooks.about("customers/update", {"id": 7, "updated_at": "2026-03-01T00:00:00Z", "contact": contact})
        for contact in ("v1.two", "v1.one")
    ],
    data=None,
)
def test_a_customers_webhooks_are_a_join(sent: list[Json], data: st.DataObject | None) -> None:
    """Also of one delivery that was sealed twice, each time to other bytes."""
    said = [envelopes.read(json.dumps(each).encode(), topics.CUSTOMERS) for each in sent]
    other = said[::-1] if data is None else data.draw(st.permutations(said + said[::2]))
    found = []
    for each in (said, other):
        state = customers.initial()
        for webhook in each:
            customers.apply(state, webhook)
        found.append(state)
    assert found[0] == found[1]


# RFM

DAY = timedelta(days=1)
T = datetime(2026, 11, 1, 12, tzinfo=UTC)


def measured(processed_at: list[datetime], look_back_days: int | None = 365) -> customers.Measured:
    """A customer at T with orders of 1.00, each worth a point."""
    state = customers.initial()
    nodes: Any = Flat()
    for number, at in enumerate(processed_at):
        entry = [instants.from_datetime(at), str(number), "r", 100, 1, 0, 1, 1]
        state["tree"] = contributions.put(nodes, state["tree"], entry)
    state["now"] = instants.from_datetime(T)
    program = Program(shop="t.myshopify.com", currency="USD", look_back_days=look_back_days)
    return customers.measure(state, nodes, ShopReference.of(program))


US, SECOND = timedelta(microseconds=1), timedelta(seconds=1)


@pytest.mark.parametrize(
    ("at", "counts", "balance"),
    [
        (T - 365 * DAY - SECOND, False, 1),
        (T - 365 * DAY - US, False, 1),
        (T - 365 * DAY, False, 1),  # t - L < processed_at
        (T - 365 * DAY + US, True, 1),
        (T - 365 * DAY + SECOND, True, 1),
        (T - US, True, 1),
        (T, True, 1),  # processed_at <= t
        (T + US, False, 0),
        (T + SECOND, False, 0),
    ],
)
def test_the_look_back_to_the_microsecond(at: datetime, counts: bool, balance: int) -> None:
    found = measured([at])
    assert (found.values.frequency, found.values.monetary) == (int(counts), 100 * counts)
    assert (found.values.recency is not None) == counts
    assert found.purse.balance == balance, "points know no look-back, but they wait for their day"
    assert measured([at], None).values.frequency == int(at <= T)


@pytest.mark.parametrize(
    ("ago", "days"),
    [
        (timedelta(0), 0),
        (DAY - US, 0),
        (DAY, 1),
        (DAY + US, 1),
        (2 * DAY - US, 1),
        (2 * DAY, 2),
    ],
)
def test_recency_is_in_whole_days_of_seconds(ago: timedelta, days: int) -> None:
    assert measured([T - ago]).values.recency == days
    assert measured([T - ago, T - ago - DAY, T + DAY]).values.recency == days, "of the latest that counts"


_ASCENDING = st.lists(st.integers(0, 12), min_size=4, max_size=4).map(sorted)


@thorough(300)
@given(
    cuts=st.tuples(_ASCENDING, _ASCENDING, _ASCENDING),
    values=st.tuples(st.integers(0, 14), st.integers(1, 14), st.integers(1, 14)),
)
@example(cuts=([5] * 4, [5] * 4, [5] * 4), values=(5, 5, 5))
@example(cuts=([5] * 4, [5] * 4, [5] * 4), values=(6, 6, 6))
def test_digits_are_the_oracles(cuts: tuple[list[int], ...], values: tuple[int, int, int]) -> None:
    recency, frequency, monetary = cuts
    made = CutPoints.model_validate(
        {
            "shop": SHOP,
            "version": "v",
            "as_of": T,
            "customers": 50,
            "recency": recency,
            "frequency": frequency,
            "monetary": monetary,
        }
    )
    program = Program(shop=SHOP, currency="USD")
    found = rfm.standing(rfm.Values(*values), made, program)
    wanted = oracle.Customer(now=T, recency=values[0], frequency=values[1], monetary=values[2])
    version = {"version": "v", "as_of": T.isoformat(), "recency": recency, "frequency": frequency, "monetary": monetary}
    oracle.score(wanted, T, [version], "USD")
    assert (found["r"], found["f"], found["m"]) == wanted.digits
    assert (found["score"], found["segment_id"], found["segment"]) == (wanted.score, wanted.segment_id, wanted.segment)
    # A better value never has a worse digit, and an equal one never another: digits are a function of the value.
    better = rfm.digits(rfm.Values(max(values[0] - 1, 0), values[1] + 1, values[2] + 1), made)
    assert wanted.digits is not None
    assert all(a >= b for a, b in zip(better, wanted.digits, strict=True))


def test_a_prospect_has_no_digits() -> None:
    program = Program(shop=SHOP, currency="KWD")
    cuts = default_cut_points(SHOP, "KWD", T)
    found = rfm.standing(rfm.Values(None, 0, 0), cuts, program)
    assert found == {
        **dict.fromkeys(("r", "f", "m", "score")),
        "segment_id": "seg_000",
        "segment": "Prospects",
        "cut_points_version": "default",
    }
    assert cuts.monetary == (50_000, 100_000, 250_000, 500_000)


def test_the_version_in_use_is_the_newest_not_after_now() -> None:
    shop = shop_reference()
    for version, at in [("b", T), ("a", T - DAY), ("c", T + DAY), ("b-again", T)]:
        cuts = CutPoints.model_validate({**default_cut_points(SHOP, "USD", at).model_dump(), "version": version})
        shop = shop.adding(cuts)
    now = instants.from_datetime(T)
    found = [
        shop.cut_points(now + late).version
        for late in (-instants.DAY - 1, -instants.DAY, -1, 0, instants.DAY - 1, instants.DAY)
    ]
    assert found == ["default", "a", "a", "b-again", "b-again", "c"]


# Points


def rates(currency: str, *rules: tuple[datetime | None, str]) -> Rates:
    made = tuple(Rule(effective_from=start, points_per_unit=rate) for start, rate in rules)
    return Rates(Program(shop=SHOP, currency=currency, rules=made))


@pytest.mark.parametrize(
    ("currency", "net", "rate", "points"),
    [
        ("USD", 99, "1", 0),
        ("USD", 100, "1", 1),
        ("USD", 199, "1", 1),
        ("USD", 50, "1", 0),  # half a unit is no point
        ("USD", 50, "2", 1),
        ("USD", 10_00, "0.333", 3),
        ("USD", 100_00, "1.15", 115),  # 114.99999999999999 in floats
        ("USD", 1_00, "0.29", 0),
        ("USD", 100_00, "0.29", 29),  # 28.999999999999996 in floats
        ("USD", 1, "10000", 100),
        ("USD", 10_00, "0", 0),
        ("JPY", 1, "1", 1),
        ("JPY", 999, "0.01", 9),
        ("JPY", 1000, "0.001", 1),
        ("KWD", 999, "1", 0),
        ("KWD", 1000, "1", 1),
        ("KWD", 1_500, "1.5", 2),
        ("USD", 9_007_199_254_740_993, "0.1", 9_007_199_254_740),
        ("JPY", 100, "1.15", 115),
        ("JPY", money.MAX_MINOR, "10000", money.MAX_POINTS),
    ],
)
def test_points_are_floored_in_major_units(currency: str, net: int, rate: str, points: int) -> None:
    assert rates(currency, (None, rate)).points(net, 0) == points


@thorough(200)
@given(
    net=st.integers(0, money.MAX_MINOR),
    currency=st.sampled_from(["USD", "JPY", "KWD"]),
    rules=st.lists(st.tuples(st.sampled_from(webhooks.POOL), st.decimals(0, 10_000, places=6).map(str)), max_size=4),
    at=st.sampled_from(webhooks.POOL),
)
def test_the_rule_in_force_is_the_oracles(
    net: int, currency: str, rules: list[tuple[datetime, str]], at: datetime
) -> None:
    found = rates(currency, (None, "1"), *rules).points(net, instants.from_datetime(at))
    plain = {
        "currency": currency,
        "rules": [{"effective_from": webhooks.text(start), "points_per_unit": rate} for start, rate in rules],
    }
    assert found == oracle.points_of(net, at, plain)


def test_a_rule_holds_from_its_very_microsecond() -> None:
    found = rates("USD", (None, "1"), (T, "2"), (T + DAY, "3"))
    at = instants.from_datetime(T)
    points = [found.points(100, at + late) for late in (-1, 0, 1, instants.DAY - 1, instants.DAY)]
    assert points == [1, 2, 2, 2, 3]


@thorough(100)
@given(net=st.integers(0, 10**9), less=st.integers(0, 10**9), rate=st.decimals(0, 100, places=3))
def test_what_is_taken_back_is_never_more_than_was_earned(net: int, less: int, rate: Any) -> None:
    made = rates("USD", (None, str(rate)))
    earned, due = made.points(net, 0), made.points(max(net - less, 0), 0)
    assert 0 <= due <= earned


# Programs


def program(*rules: tuple[datetime | None, str], **changes: Any) -> Program:
    made = [{"effective_from": start, "points_per_unit": rate} for start, rate in rules]
    return Program.model_validate({"shop": SHOP, "currency": "USD", "rules": made, **changes})


def announced(found: Program, at: datetime) -> Program:
    return found.model_copy(update={"announced_at": at, "id": uuid5(NAMESPACE_URL, tag(found))})


SINCE_EVER = (None, "1")
IN_TIME = T + timedelta(minutes=15)


@pytest.mark.parametrize(
    ("newer", "says"),
    [
        (program(SINCE_EVER, (IN_TIME, "2"), currency="EUR"), "currency"),
        (program((None, "2"), (IN_TIME, "2")), "append-only"),
        (program((None, "1.5")), "append-only"),
        (program(SINCE_EVER, (IN_TIME - US, "2")), "15 minutes"),
        (program(SINCE_EVER, (IN_TIME, "2"), (T - DAY, "3")), "15 minutes"),
    ],
)
def test_a_program_that_may_not_replace_another(newer: Program, says: str) -> None:
    with pytest.raises(BadEvent, match=says):
        succeed(program(SINCE_EVER), announced(newer, T))


def test_rules_are_only_ever_added() -> None:
    first = announced(program(SINCE_EVER), T)
    second = announced(program(SINCE_EVER, (IN_TIME, "2")), T)
    assert succeed(None, second) == second
    assert succeed(first, first) == first
    assert succeed(first, second).rules == second.rules
    later = announced(second, T + 100 * DAY)  # its rule was announced long ago, so in time
    assert succeed(second, later) == later
    with pytest.raises(BadEvent, match="append-only"):
        succeed(second, announced(first, T + DAY))
    moved = announced(program(SINCE_EVER, (IN_TIME, "2"), zone="Asia/Tokyo", look_back_days=None), T + US)
    assert succeed(second, moved) == moved


WRONG_NAMES = ("", "x" * 101, "a\0b", "a\nb", "a\x7fb", "a\x85b", "\ud800", "\udfff")


@pytest.mark.parametrize(
    "wrong",
    [
        {"rules": []},
        {"rules": [{"effective_from": "2026-01-01T00:00:00Z", "points_per_unit": "1"}]},
        {"rules": [{"points_per_unit": "1"}, {"points_per_unit": "2"}]},
        {"rules": [{"points_per_unit": "-1"}]},
        {"rules": [{"points_per_unit": "10000.000001"}]},
        {"rules": [{"points_per_unit": "0.0000001"}]},
        {"rules": [{"points_per_unit": "NaN"}]},
        {"rules": [{"effective_from": "2026-01-01T00:00:00", "points_per_unit": "1"}]},
        {"currency": "usd"},
        {"currency": "XXX"},
        {"zone": "Mars/Olympus"},
        {"zone": "../../etc/passwd"},
        {"look_back_days": 0},
        {"batch_at": "25:00"},
        {"grid": [["a"] * 5] * 4},
        {"unknown": 1},
        {"shop": "Nest.myshopify.com"},
        {"shop": "nest.example.com"},
        {"zone": "UTC\0"},
        {"zone": "\ud800"},
        {"rules": [{}, {"effective_from": "0001-01-01T00:00:00+14:00"}]},
        {"rules": [{}, {"effective_from": "9999-12-31T23:59:59-14:00"}]},
        {"announced_at": "9999-12-31T23:59:59-14:00"},
        {"id": "me"},
        *({"grid": [[name, *["a"] * 4]] * 5} for name in WRONG_NAMES),
        *({"translations": {"de": {"Loyal": name}}} for name in WRONG_NAMES),
        *({"translations": {"de": {name: "Treu"}}} for name in WRONG_NAMES),
        {"translations": {"\ud800": {}}},
        {"translations": {"de" * 20: {}}},
        {"translations": {"de": {f"name {number}": "Treu" for number in range(27)}}},
        {"translations": {f"x{letter}": {} for letter in "abcdefghijklmnopqrstu"}},
    ],
)
def test_a_program_that_is_none(wrong: Json) -> None:
    with pytest.raises((ValidationError, BadEvent)):
        Program.model_validate({"shop": SHOP, "currency": "USD", **wrong})


# Money


@thorough(300)
@given(minor=st.integers(-money.MAX_MINOR, money.MAX_MINOR), currency=st.sampled_from(["USD", "JPY", "KWD", "CLP"]))
def test_money_is_read_as_it_was_written(minor: int, currency: str) -> None:
    text = money.decimal_text(minor, currency)
    assert money.minor(text, currency) == minor
    assert Fraction(text) * 10 ** money.exponent(currency) == minor


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("10", "USD", 1000),
        ("10.5", "USD", 1050),
        ("10.50", "USD", 1050),
        ("10.500", "USD", 1050),  # no more than zeros
        ("-0.01", "USD", -1),
        ("0", "JPY", 0),
        ("1050.00", "JPY", 1050),
        ("1.999", "KWD", 1999),
        (12, "USD", 1200),
        ("9" * 11, "USD", 10**13 - 100),
        ("1e2", "USD", 10_000),
        ("1e11", "USD", money.MAX_MINOR),
    ],
)
def test_amounts(amount: Any, currency: str, minor: int) -> None:
    assert money.minor(amount, currency) == minor


@pytest.mark.parametrize(
    "amount",
    [
        *(
            "10.001",
            "1.0000000000000000000000000000000001",
            "0." + "0" * 35 + "1",
            "1" * 30,
            "1e14",
            "1e999999",
            "1e-9",
        ),
        *(
            "-1e99",
            "",
            " ",
            ".",
            "1,50",
            "1_000",
            "0x10",
            "ten",
            "NaN",
            "sNaN",
            "Infinity",
            "-Infinity",
            "١٢",
            "1" * 41,
        ),
        *(1.5, 1.0, float("nan"), float("inf"), True, False, None, [], {}, b"1", 10**30, -(10**30)),
    ],
    ids=repr,
)
def test_what_is_no_amount_is_refused_at_once(amount: Any) -> None:
    with pytest.raises(BadEvent) as caught:
        money.minor(amount, "USD")
    assert caught.value.reason == "bad_amount"


@pytest.mark.parametrize("currency", ["", "usd", "XXX", "US", "DOLLAR", "X" * 100])
def test_an_unknown_currency(currency: str) -> None:
    with pytest.raises(BadEvent) as caught:
        money.minor("1.00", currency)
    assert caught.value.reason == "unknown_currency"


# Instants


@thorough(200)
@given(st.integers(0, instants.from_datetime(datetime(2999, 12, 31, tzinfo=UTC))))
def test_instants_are_read_as_they_were_written(us: int) -> None:
    assert instants.parse(instants.text(us)) == us
    assert instants.from_datetime(instants.to_datetime(us)) == us


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T10:00:00Z",
        "2026-03-01T05:00:00-05:00",
        "2026-03-01T15:30:00+05:30",
        "2026-03-01T10:00:00.000000+00:00",
    ],
)
def test_an_instant_is_one_whatever_its_offset(text: str) -> None:
    assert instants.parse(text) == 1_772_359_200_000_000
