"""Addresses and consents in any order of arrival: the law, and what a payload that says nothing may not do.

That stream and oracle agree on both over any webhooks is test_order_free's.
"""

import random
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests import harness
from tests.harness import Stream
from tests.property.webhooks import CUSTOMERS, END, SHOP, about, deliveries, envelopes, text, thorough

Json = dict[str, Any]

KNOWN = {SHOP: {"currency": "USD", "zone": "UTC", "look_back_days": 365, "rules": []}}
#: Later than all that the other webhooks tell of.
LATER = END + timedelta(days=1)


def run(sent: list[Json], seed: int, crashes: int = 0) -> dict[str, Json]:
    """The customers' last rows, by id."""
    stream = Stream(harness.reference(KNOWN), random.Random(seed), most=3)
    for each in sent:
        stream.send(each)
    stream.run(crashes)
    assert not stream.sink().letters
    rows: Any = stream.sink().rows
    return {customer_id: row for (_, customer_id), row in rows.items()}


def reached(rows: dict[str, Json]) -> dict[str, Any]:
    return {customer_id: (row["contact"], row["consent"]) for customer_id, row in rows.items()}


def left(customer: int) -> Json:
    said = {"customer_id": customer, "consent": "v1.left", "consent_at": text(LATER)}
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
