"""Webhooks that nobody would send: right ones of every topic, changed at random, signed all the same. Seeded."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from cli.shop import store_maker
from events import instants
from events.webhook_topics import SHOPIFY

EMAIL = "golden.person@example.com"
SHOP = "nest.myshopify.com"

_CUSTOMER = {
    "id": 7,
    "admin_graphql_api_id": "gid://shopify/Customer/7",
    "email": EMAIL,
    "created_at": "2026-11-01T10:00:00Z",
    "updated_at": "2026-11-21T10:00:00Z",
    "email_marketing_consent": {"state": "subscribed"},
    "default_address": {"name": "Goldie", "address1": "1 Person Street", "phone": "+15550100"},
}
_WHOSE = {"shop_id": 5, "shop_domain": SHOP, "customer": {"id": 7, "email": EMAIL, "phone": "+15550100"}}
_OTHERS: dict[str, dict[str, Any]] = {
    "orders/edited": {"order_edit": {"id": 9, "order_id": 1001, "created_at": "2026-11-21T10:00:00Z"}},
    "orders/delete": {"id": 1001},
    "customers/create": _CUSTOMER,
    "customers/update": _CUSTOMER,
    "customers_email_marketing_consent/update": {
        "customer_id": 7,
        "email_address": EMAIL,
        "email_marketing_consent": {
            "state": "unsubscribed",
            "opt_in_level": "single_opt_in",
            "consent_updated_at": "2026-11-21T10:00:00Z",
            "consent_collected_from": "OTHER",
        },
    },
    "customers_sms_marketing_consent/update": {
        "customer_id": 7,
        "phone_number": "+15550100",
        "sms_marketing_consent": {"state": "subscribed", "consent_updated_at": "2026-11-21T10:00:00Z"},
    },
    "customers/delete": {"id": 7, "phone": None, "addresses": []},
    "customers/merge": {
        "admin_graphql_api_customer_kept_id": "gid://shopify/Customer/7",
        "admin_graphql_api_customer_deleted_id": "gid://shopify/Customer/8",
        "admin_graphql_api_job_id": None,
        "status": "completed",
    },
    "customers/redact": {**_WHOSE, "orders_to_redact": [1001]},
    "customers/data_request": {**_WHOSE, "orders_requested": [1001], "data_request": {"id": 9}},
    "app/uninstalled": {"id": 5, "myshopify_domain": SHOP},
    "shop/redact": {"shop_id": 5, "shop_domain": SHOP},
}

#: What may stand anywhere instead of what belongs there.
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**40, 0.1, -0.0, 1e-7, 1e300),
    *("", " ", "\0", "x", "\ud800", "P\udc09@Example.com", "é" * 300, "9" * 5000, "1e999999999", "-0.00", "NaN", "٣"),
    *("2026-11-21T10:00:00", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "v1.AAAA"),
    *(EMAIL, f"<{EMAIL}>", "gid://shopify/Order/1", "https://other.myshopify.com/1", "<script>", "'; DROP TABLE x--"),
    *([], {}, [[]], [None], [{}], {"": ""}, {"shop_money": None}, {"id": {}}, {"email": EMAIL}, [{"email": EMAIL}]),
]
#: Of bytes.
BYTES = [
    b"\xff",
    b"\x00",
    b'"',
    b"\\",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b",",
    b"\xef\xbb\xbf",
    b"NaN",
    b"1e999",
    b"\n",
    b"\xed\xa0\x80",
]
TEXTS = [
    "",
    "x",
    "x" * 300,
    EMAIL,
    "\xe9\xff",
    "orders/paid",
    "2026-11-21",
    "9999-12-31T23:59:59Z",
    "0",
    "shop.example.com",
]
HEADERS = ["Topic", "Shop-Domain", "Webhook-Id", "Event-Id", "API-Version", "Triggered-At"]


class Sent(NamedTuple):
    """A body, and Shopify's headers as they are named after `X-Shopify-`."""

    body: bytes
    headers: dict[str, str]


def originals() -> dict[str, list[dict[str, Any]]]:
    """Right payloads by topic: a generated shop's, and for what it does not send, one each."""
    found: dict[str, list[dict[str, Any]]] = {topic: [payload] for topic, payload in _OTHERS.items()}
    until = instants.parse("2026-11-21T09:30:00Z")
    for each in store_maker.make_store(until, seed=3, customers=60, webhooks=300):
        found.setdefault(each.topic, []).append({**each.payload, "email": EMAIL})
    for topic in SHOPIFY:
        found.setdefault(topic, found["orders/paid"])
    return found


def webhooks(seed: int, count: int) -> Iterator[Sent]:
    """So many webhooks, the same for the same seed; one in eight is right."""
    chance = random.Random(seed)
    known = originals()
    for number in range(count):
        topic = chance.choice(sorted(known))
        payload = copy.deepcopy(chance.choice(known[topic]))
        headers = {
            "Topic": topic,
            "Shop-Domain": SHOP,
            "Webhook-Id": f"fuzz-{number}",
            "Event-Id": "event",
            "API-Version": "2026-07",
            "Triggered-At": "2026-11-21T09:29:58Z",
        }
        if chance.random() < 0.125:
            yield Sent(json.dumps(payload).encode(), headers)
            continue
        for _ in range(chance.choice([0, 1, 1, 1, 2, 5])):
            payload = _changed(chance, payload)
        body = json.dumps(payload).encode()
        for _ in range(chance.choice([0, 0, 0, 1, 3])):
            body = _broken(chance, body)
        if chance.random() < 0.2:
            name = chance.choice(HEADERS)
            headers[name] = chance.choice([*TEXTS, *sorted(known)])
            if chance.random() < 0.3:
                del headers[name]
        yield Sent(body, headers)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (object or list, key) in a value."""
    for key in list(value) if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0):
        yield value, key
        yield from _places(value[key])


def _changed(chance: random.Random, payload: Any) -> Any:
    """One thing in it is another, is gone, stands elsewhere, or is there again."""
    places = list(_places(payload))
    if not places or chance.random() < 0.02:
        return copy.deepcopy(chance.choice(VALUES))
    at, key = chance.choice(places)
    match chance.randrange(6):
        case 0 | 1:
            at[key] = copy.deepcopy(chance.choice(VALUES))
        case 2:
            del at[key]
        case 3:  # somebody's address where an id belongs
            other, from_ = chance.choice(places)
            if isinstance(other, dict) or from_ < len(other):
                at[key] = copy.deepcopy(other[from_])
        case 4 if isinstance(at, list):
            at.extend(copy.deepcopy(at[key]) for _ in range(chance.choice([1, 50])))
        case _ if isinstance(at, dict):
            at[chance.choice([str(key) + "_", "id", "contact", "customer", "refunds", "line_items"])] = at[key]
    return payload


def _broken(chance: random.Random, body: bytes) -> bytes:
    at = chance.randrange(len(body) + 1)
    match chance.randrange(4):
        case 0:
            return body[:at]
        case 1:
            return body[:at] + chance.choice(BYTES) + body[at:]
        case 2:
            return body[:at] + chance.choice(BYTES) + body[at + 1 :]
        case _:
            return body[at:] + body[:at]
