"""Addresses and consents in any order of arrival: the law, and what a payload that says nothing may not do.

That stream and oracle agree on what each row says, over any webhooks, is test_order_free's.
"""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from events import contacts, instants
from events.contacts import Account
from tests import harness, oracle
from tests.harness import Stream
from tests.property.webhooks import ADDRESSES, CUSTOMERS, END, NOW, SHOP, about, deliveries, envelopes, text, thorough

Json = dict[str, Any]

KNOWN = {SHOP: {"currency": "USD", "zone": "UTC", "look_back_days": 365, "rules": []}}
#: What is sealed in the webhooks.
OPENED = {
    **{f"v1.{name}": f"{name}@example.com" for name in ("one", "two", "three", "four")},
    **dict.fromkeys(("v1.yes", "v1.agreed"), "subscribed"),
    **dict.fromkeys(("v1.no", "v1.left"), "unsubscribed"),
}
#: Later than all that the other webhooks tell of.
LATER = END + timedelta(days=1)


def run(sent: list[Json], seed: int, crashes: int = 0) -> dict[str, Json]:
    """The customers' last rows, by id."""
    stream = Stream(harness.reference(KNOWN), random.Random(seed), most=3)
    for each in sent:
        stream.send(each)
    stream.run(crashes)
    sink = stream.sink()
    assert not sink.letters
    rows: Any = sink.rows
    return {customer_id: row for (_, customer_id), row in rows.items()}


def reached(rows: dict[str, Json]) -> dict[str, Any]:
    return {customer_id: (row["contact"], row["consent"]) for customer_id, row in rows.items()}


def end(rows: dict[str, Json], customer_id: str) -> str:
    while rows[customer_id]["merged_into"] is not None:
        customer_id = rows[customer_id]["merged_into"]
    return customer_id


def account(row: Json) -> Account:
    """A row as books/contacts.py reads it."""
    email, at = row["contact"], row["contact_at"]
    return Account(
        email=email and OPENED[email],
        email_at=instants.parse(at) if at else 0,
        removed=email is None and at is not None,
        consent=row["consent"] and OPENED[row["consent"]],
        consent_at=instants.parse(row["consent_at"]) if row["consent_at"] else 0,
        by_order=row["consent_by_order"],
    )


def persons(rows: dict[str, Json]) -> dict[str, tuple[str | None, str | None]]:
    """Address and consent of everybody who is themselves."""
    found: dict[str, tuple[str | None, str | None]] = {}
    for customer_id, row in rows.items():
        if row["merged_into"] is None:
            others = [other for name, other in rows.items() if name != customer_id and end(rows, name) == customer_id]
            gone = row["deleted"] or row["redacted"]
            found[customer_id] = (None, None) if gone else contacts.joined(account(row), *map(account, others))
    return found


def left(customer: int | str) -> Json:
    named = {"address": customer} if isinstance(customer, str) else {"customer_id": customer}
    said = {**named, "consent": "v1.left", "consent_at": text(LATER)}
    sent = about("customers_email_marketing_consent/update", said)
    return {**sent, "triggered_at": text(LATER), "received_at": text(LATER)}


@thorough(100)
@given(sent=envelopes(), seed=st.integers(0, 2**32), crashes=st.integers(0, 2), data=st.data())
def test_an_unsubscribe_later_than_everything_wins(
    sent: list[Json], seed: int, crashes: int, data: st.DataObject
) -> None:
    everything = data.draw(deliveries([*sent, *map(left, CUSTOMERS)]))
    for customer_id, row in run(everything, seed, crashes).items():
        if customer_id in map(str, CUSTOMERS):
            assert row["consent"] == (None if row["redacted"] or row["deleted"] else "v1.left")


@thorough(100)
@given(sent=envelopes(), seed=st.integers(0, 2**32), topic=st.sampled_from(["customers/update", "orders/updated"]))
def test_what_a_payload_lacks_it_says_nothing_of(sent: list[Json], seed: int, topic: str) -> None:
    """A webhook newer than all, without a word of address or consent, takes neither away."""
    silent: Json = {"id": CUSTOMERS[0], "updated_at": text(LATER)}
    if topic == "orders/updated":
        silent = {"id": 5, "created_at": text(LATER), "currency": "USD", "subtotal_price": "1.00"}
        silent["customer"] = {"id": CUSTOMERS[0]}
    assert reached(run([*sent, about(topic, silent)], seed)) == reached(run(sent, seed))


_AT = st.sampled_from([None, *(datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2))])


@st.composite
def told(draw: st.DrawFn) -> oracle.Reach:
    """What one customer may have told, at few times."""
    reach = oracle.Reach(gone=draw(st.sampled_from([False, False, False, True])))
    if not reach.gone:
        reach.contact, reach.contact_at = draw(st.sampled_from([None, "v1.one", "v1.two"])), draw(_AT)
        reach.consent = draw(st.sampled_from([None, "v1.yes", "v1.no"]))
        if reach.consent is not None:
            reach.consent_at = draw(_AT)
            reach.by_order = reach.consent_at is not None and draw(st.booleans())
    return reach


def row_of(reach: oracle.Reach) -> Json:
    times = {name: (at := getattr(reach, name)) and text(at) for name in ("contact_at", "consent_at")}
    told = {"contact": reach.contact, "consent": reach.consent, "consent_by_order": reach.by_order}
    return {**told, **times, "deleted": reach.gone, "redacted": False}


@thorough(500)
@given(several=st.lists(told(), min_size=1, max_size=4))
def test_what_several_told_is_joined_as_the_oracle_has_it(several: list[oracle.Reach]) -> None:
    """The first is who was kept. Ties rule."""
    shop = oracle.Shop()
    for number, reach in enumerate(several):
        into = "0" if number else None
        shop.customers[str(number)] = oracle.Customer(now=NOW, reach=reach, merged_into=into)
    rows = {name: {**row_of(of.reach), "merged_into": of.merged_into} for name, of in shop.customers.items()}
    assert persons(rows) == {"0": oracle.person(shop, "0", OPENED)}


@thorough(150)
@given(sent=envelopes(), seed=st.integers(0, 2**32), crashes=st.integers(0, 2), data=st.data())
def test_a_persons_address_and_consent_are_the_oracles_in_any_order(
    sent: list[Json], seed: int, crashes: int, data: st.DataObject
) -> None:
    found = persons(run(data.draw(deliveries(sent)), seed, crashes))
    expected = oracle.oracle(sent, KNOWN)[SHOP]
    assert found == {customer_id: oracle.person(expected, customer_id, OPENED) for customer_id in found}


@thorough(100)
@given(sent=envelopes(), seed=st.integers(0, 2**32), crashes=st.integers(0, 2), data=st.data())
def test_an_address_that_unsubscribes_last_stays_so_whoever_it_belongs_to(
    sent: list[Json], seed: int, crashes: int, data: st.DataObject
) -> None:
    rows = run(data.draw(deliveries([*sent, *map(left, ADDRESSES)])), seed, crashes)
    found = persons(rows)
    for address in ADDRESSES:
        whose = end(rows, address)
        gone = any(rows[each]["deleted"] or rows[each]["redacted"] for each in (address, whose))
        assert gone or found[whose][1] == "unsubscribed"
