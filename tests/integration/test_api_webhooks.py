"""The front door: every wrong thing a webhook can be, and what may go on of a right one."""

import json
import re
from hashlib import sha256
from typing import Any

import pytest

from books.sealed import MasterKeys
from books.vault import Vault
from events import keys, topics
from tests.integration.api_world import MASTER, OTHER, SECRETS, SHOP, World, sign
from tests.support import DATA

ORDER: dict[str, Any] = {
    "id": 820982911946154508,
    "created_at": "2026-11-21T04:29:57-05:00",
    "updated_at": "2026-11-21T04:29:57-05:00",
    "processed_at": None,
    "financial_status": "paid",
    "currency": "USD",
    "current_subtotal_price": "129.90",
    "customer": {"id": 115310627314723954, "email": "bob.norman@example.com", "first_name": "Bob"},
    "email": "bob.norman@example.com",
    "browser_ip": "203.0.113.7",
    "line_items": [],
    "refunds": [],
}
CUSTOMER: dict[str, Any] = {
    "id": 115310627314723954,
    "email": " Bob.Norman@Example.com ",
    "email_marketing_consent": {"state": "subscribed"},
    "updated_at": "2026-11-21T09:29:57Z",
    "default_address": {"address1": "Chestnut Street 92"},
    "contact": "bob.norman@example.com",
}


def only(world: World, topic: str) -> dict[str, Any]:
    """The one message there is, which must be on this topic."""
    assert [each.topic for each in world.publisher.messages] == [topic]
    return world.publisher.values()[0]


def letter(world: World, error: str) -> dict[str, Any]:
    found = only(world, topics.DEAD_LETTERS)
    assert (found["error"], found["source"]) == (error, "webhook")
    assert b"bob." not in world.publisher.messages[0].value.lower()
    return found


# --- what is taken -----------------------------------------------------------------------------------------------


def test_an_order_is_minimised_keyed_and_published(world: World) -> None:
    assert world.webhook("orders/paid", ORDER).status_code == 200
    envelope = only(world, topics.ORDERS)
    assert world.publisher.messages[0].key == f"{SHOP}/820982911946154508"
    assert envelope["payload"].pop("customer") == {"id": 115310627314723954}
    assert set(envelope["payload"]) == set(ORDER) - {"customer", "email", "browser_ip"} | {"address", "contact"}
    assert envelope["payload"]["id"] == 820982911946154508
    assert (envelope["topic"], envelope["shop"]) == ("orders/paid", SHOP)
    assert envelope["triggered_at"] == "2026-11-21T09:29:58.123456Z"
    assert envelope["received_at"].endswith("Z")
    assert b"bob." not in world.publisher.messages[0].value.lower()


@pytest.mark.parametrize("secret", SECRETS)
def test_two_secrets_hold_at_once(world: World, secret: str) -> None:
    assert world.webhook("orders/paid", ORDER, secret=secret).status_code == 200


@pytest.mark.parametrize("signature", ["", "AAAA", sign(b"{}", "an older secret"), sign(b"{}", "new secret") + "x"])
def test_a_wrong_signature_gets_401_and_leaves_nothing(world: World, signature: str) -> None:
    answer = world.webhook("orders/paid", b"{}", X_Shopify_Hmac_Sha256=signature)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:loyalnest:problem:bad-signature"
    assert world.publisher.messages == []


def test_the_signature_is_over_the_raw_body(world: World) -> None:
    body = json.dumps(ORDER, indent=2).encode()
    assert world.webhook("orders/paid", body).status_code == 200
    wrong = sign(json.dumps(ORDER).encode(), SECRETS[0])
    assert world.webhook("orders/paid", body, X_Shopify_Hmac_Sha256=wrong).status_code == 401


def test_headers_in_any_case(world: World) -> None:
    body = json.dumps(ORDER).encode()
    headers = {
        "x-shopify-topic": "orders/paid",
        "X-SHOPIFY-SHOP-DOMAIN": "NEST.myshopify.com",
        "X-shopify-HMAC-sha256": sign(body, SECRETS[0]),
    }
    assert world.client.post("/webhooks/shopify", content=body, headers=headers).status_code == 200
    envelope = only(world, topics.ORDERS)
    assert envelope["shop"] == SHOP
    assert envelope["webhook_id"] == sha256(body).hexdigest()
    assert envelope["triggered_at"] == envelope["received_at"]
    assert (envelope["event_id"], envelope["api_version"]) == (None, None)


@pytest.mark.parametrize(
    ("topic", "payload", "kafka", "key"),
    [
        ("orders/delete", {"id": 7}, topics.ORDERS, "7"),
        ("orders/edited", {"order_edit": {"id": 1, "order_id": 8}}, topics.ORDERS, "8"),
        ("refunds/create", {"id": 1, "order_id": 9}, topics.ORDERS, "9"),
        ("customers/delete", {"id": 10}, topics.CUSTOMERS, "10"),
        (
            "customers/data_request",
            {"shop_domain": SHOP, "customer": {"id": 11, "email": "b@x"}},
            topics.CUSTOMERS,
            "11",
        ),
        (
            "customers/merge",
            {"admin_graphql_api_customer_kept_id": "gid://shopify/Customer/12", "status": "failed"},
            topics.CUSTOMERS,
            "12",
        ),
        ("customers_email_marketing_consent/update", {"customer_id": 13}, topics.CUSTOMERS, "13"),
        ("customers_sms_marketing_consent/update", {"customer_id": 14}, topics.CUSTOMERS, "14"),
        ("app/uninstalled", {"id": 1, "domain": None}, topics.SHOPS, None),
        ("shop/redact", {"shop_id": 1, "shop_domain": SHOP}, topics.SHOPS, None),
    ],
)
def test_every_family_has_its_topic_and_key(
    world: World, topic: str, payload: object, kafka: str, key: str | None
) -> None:
    assert world.webhook(topic, payload).status_code == 200
    only(world, kafka)
    assert world.publisher.messages[0].key == (SHOP if key is None else keys.join(SHOP, key))


@pytest.mark.parametrize(
    ("topic", "file"),
    [
        ("orders/paid", "order_paid.json"),
        ("orders/updated", "order_refunded.json"),
        ("refunds/create", "refund.json"),
        ("customers/create", "customer.json"),
    ],
)
def test_whole_payloads_of_today(world: World, topic: str, file: str) -> None:
    body = (DATA / "shopify" / file).read_bytes().replace(b"golden.myshopify.com", SHOP.encode())
    assert world.webhook(topic, body).status_code == 200
    assert world.publisher.messages[0].topic.startswith("shopify.")
    written = world.publisher.messages[0].value.decode()
    personal = ("Ottilie", "ottilie", "Brandt", "Lindenhof", "Quedlinburg", "5550117", "198.51.100.23", "bowl was")
    assert not [word for word in personal if word in written]


def test_numbers_stay_what_they_were(world: World) -> None:
    line = {"quantity": 1, "subtotal": 89.99, "subtotal_set": {"shop_money": {"amount": "89.99"}}}
    body = b'{"id": 9007199254740993, "order_id": 9223372036854775807, "refund_line_items": [%s]}'
    assert world.webhook("refunds/create", body % json.dumps(line).encode()).status_code == 200
    payload = only(world, topics.ORDERS)["payload"]
    assert (payload["id"], payload["order_id"]) == (9007199254740993, 9223372036854775807)
    assert payload["refund_line_items"][0]["subtotal"] == "89.99"


@pytest.mark.parametrize(
    "change",
    [
        {"created_at": "2026-11-21T09:00:00"},
        {"financial_status": "quantum"},
        {"currency": "ZZZ"},
        {"current_subtotal_price": "-1.00"},
        {"processed_at": "2099-01-01T00:00:00Z"},
        {"customer": None},
        {"note": "\ud800 half a pair, as JSON may hold it"},
    ],
)
def test_what_an_order_is_worth_is_not_the_front_doors_business(world: World, change: dict[str, Any]) -> None:
    assert world.webhook("orders/paid", {**ORDER, **change}).status_code == 200
    only(world, topics.ORDERS)


def test_a_delivery_is_taken_once_but_never_told_by_its_event_id(world: World) -> None:
    for webhook_id in ("w-1", "w-1", "w-2"):
        assert world.webhook("orders/updated", ORDER, X_Shopify_Webhook_Id=webhook_id).status_code == 200
    assert world.webhook("orders/paid", ORDER, X_Shopify_Webhook_Id="w-1").status_code == 200
    assert [(each["topic"], each["webhook_id"]) for each in world.publisher.values()] == [
        ("orders/updated", "w-1"),
        ("orders/updated", "w-2"),
        ("orders/paid", "w-1"),
    ]


def test_what_could_not_be_made_durable_is_not_acknowledged_and_not_remembered(world: World) -> None:
    world.publisher.failing = True
    answer = world.webhook("orders/paid", ORDER, X_Shopify_Webhook_Id="w-1")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:loyalnest:problem:not-durable")
    assert world.webhook("orders/paid", b"{", X_Shopify_Webhook_Id="w-2").status_code == 503
    world.publisher.failing = False
    assert world.webhook("orders/paid", ORDER, X_Shopify_Webhook_Id="w-1").status_code == 200
    only(world, topics.ORDERS)


# --- contacts ----------------------------------------------------------------------------------------------------


def test_a_contact_travels_sealed(world: World) -> None:
    assert world.webhook("customers/update", CUSTOMER).status_code == 200
    payload = only(world, topics.CUSTOMERS)["payload"]
    assert set(payload) == {"id", "updated_at", "address", "contact", "consent"}
    assert "bob." not in json.dumps(payload).lower()
    assert "subscribed" not in json.dumps(payload)
    assert told(world, str(CUSTOMER["id"]), payload) == ("bob.norman@example.com", "subscribed")


def told(world: World, customer_id: str, payload: dict[str, Any]) -> tuple[str | None, str | None]:
    """E-mail and consent as they stand sealed in a payload."""
    sealed = [payload.get("contact"), payload.get("consent")]
    email, consent = (each and world.run(world.services.vault.open(SHOP, customer_id, each)) for each in sealed)
    assert email is None or email.consent is None
    assert consent is None or consent.email is None
    return email and email.email, consent and consent.consent


@pytest.mark.parametrize(
    ("changes", "contact", "consent", "consent_at"),
    [
        ({"email": None}, None, None, None),
        ({"email": ""}, None, None, None),
        ({"email": 5}, "absent", None, None),
        ({"email": "x" * 321}, "absent", None, None),
        ({"email_marketing_consent": {"state": "UNSUBSCRIBED"}}, "absent", "unsubscribed", None),
        (
            {"email_marketing_consent": {"state": "pending", "consent_updated_at": "2026-11-20T05:00:05-05:00"}},
            *("absent", "pending", "2026-11-20T10:00:05Z"),
        ),
        (
            {"email_marketing_consent": {"state": "subscribed", "consent_updated_at": "once"}},
            *("absent", "subscribed", None),
        ),
        (
            {"accepts_marketing": True, "accepts_marketing_updated_at": "2026-11-20T10:00:05Z"},
            *("absent", "subscribed", "2026-11-20T10:00:05Z"),
        ),
        ({"accepts_marketing": False}, "absent", "not_subscribed", None),
        ({"accepts_marketing": "yes", "email_marketing_consent": {"state": "<b>"}}, "absent", None, None),
        ({"email_marketing_consent": "subscribed"}, "absent", None, None),
        ({"email_marketing_consent": None, "accepts_marketing": None}, "absent", None, None),
        ({"consent_at": "2026-11-20T10:00:05Z", "consent": "v1.AAAA"}, "absent", None, None),
    ],
)
def test_a_customer_tells_what_their_payload_holds_and_nothing_of_what_it_lacks(
    world: World, changes: dict[str, Any], contact: str | None, consent: str | None, consent_at: str | None
) -> None:
    assert world.webhook("customers/update", {"id": 7, "updated_at": "2026-11-21T09:29:57Z", **changes}).is_success
    payload = only(world, topics.CUSTOMERS)["payload"]
    assert payload.get("contact", "absent") == contact
    assert (told(world, "7", {**payload, "contact": None})[1], payload.get("consent_at")) == (consent, consent_at)


def test_a_consent_by_its_own_topic(world: World) -> None:
    marketing = {
        "state": "unsubscribed",
        "opt_in_level": "single_opt_in",
        "consent_updated_at": "2026-11-21T09:29:57Z",
        "consent_collected_from": "OTHER",
    }
    said = {"customer_id": 7, "email_address": " Bob.Norman@Example.com", "email_marketing_consent": marketing}
    assert world.webhook("customers_email_marketing_consent/update", said).status_code == 200
    payload = only(world, topics.CUSTOMERS)["payload"]
    assert set(payload) == {"customer_id", "address", "contact", "consent", "consent_at"}
    assert told(world, "7", payload) == ("bob.norman@example.com", "unsubscribed")
    assert payload["consent_at"] == "2026-11-21T09:29:57Z"


def test_a_consent_for_sms_is_archived_without_its_number(world: World) -> None:
    said = {"customer_id": 7, "phone_number": "+15550100", "sms_marketing_consent": {"state": "subscribed"}}
    assert world.webhook("customers_sms_marketing_consent/update", said).status_code == 200
    assert only(world, topics.CUSTOMERS)["payload"] == {"customer_id": 7}


@pytest.mark.parametrize(
    ("changes", "email", "consent"),
    [
        ({}, "bob.norman@example.com", None),
        ({"buyer_accepts_marketing": True}, "bob.norman@example.com", "subscribed"),
        ({"buyer_accepts_marketing": False}, "bob.norman@example.com", None),
        ({"buyer_accepts_marketing": "true"}, "bob.norman@example.com", None),
        ({"email": " Typed@At.Checkout "}, "bob.norman@example.com", None),
        ({"email": None}, "bob.norman@example.com", None),
        ({"customer": {"id": 7}, "email": " Typed@At.Checkout "}, "typed@at.checkout", None),
        ({"customer": {"id": 7, "email": " "}, "email": "a@b.c"}, "a@b.c", None),
        ({"customer": {"id": 7, "email": "\ud800@b.c"}, "email": "a@b.c"}, "a@b.c", None),
    ],
)
def test_an_orders_contact_is_sealed_for_its_customer(
    world: World, changes: dict[str, Any], email: str, consent: str | None
) -> None:
    assert world.webhook("orders/paid", {**ORDER, **changes}).status_code == 200
    payload = only(world, topics.ORDERS)["payload"]
    assert told(world, str(payload["customer"]["id"]), payload) == (email, consent)
    assert payload["address"] == world.run(world.services.vault.address(SHOP, email))
    assert email.encode() not in world.publisher.messages[0].value.lower()


@pytest.mark.parametrize("customer", [None, {}, {"id": None, "email": "bob.norman@example.com"}])
def test_an_order_without_a_customer_is_sealed_for_whom_its_address_names(world: World, customer: object) -> None:
    assert world.webhook("orders/paid", {**ORDER, "customer": customer}).status_code == 200
    payload = only(world, topics.ORDERS)["payload"]
    assert told(world, payload["address"], payload) == ("bob.norman@example.com", None)


@pytest.mark.parametrize("email", [None, "", " ", 5, ["a@b.c"], "x" * 321, "\ud800@b.c"])
def test_an_order_without_an_address_says_nothing_of_one(world: World, email: object) -> None:
    order = {**ORDER, "customer": {"id": 7, "email": email}, "email": email, "buyer_accepts_marketing": True}
    assert world.webhook("orders/paid", order).status_code == 200
    assert not {"address", "contact", "consent"} & set(only(world, topics.ORDERS)["payload"])


def test_an_address_has_one_id_in_a_shop_and_another_in_each(world: World) -> None:
    vault = world.services.vault
    mine = world.run(vault.address(SHOP, " Bob.Norman@Example.com"))
    assert re.fullmatch("mail-[0-9a-f]{32}", mine)
    assert world.run(vault.address(SHOP, "bob.norman@example.com")) == mine
    assert world.run(Vault(MasterKeys([MASTER]), world.services.pool).address(SHOP, "bob.norman@example.com")) == mine
    assert world.run(vault.address(OTHER, "bob.norman@example.com")) != mine
    assert world.run(vault.address(SHOP, "bob.norman@example.org")) != mine
    assert world.run(vault.address(SHOP, "bob.norman@example.com")) == mine
    world.webhook("customers/redact", {"shop_domain": SHOP, "customer": {"id": 1}})
    assert world.run(Vault(MasterKeys([MASTER]), world.services.pool).address(SHOP, "bob.norman@example.com")) == mine
    assert world.webhook("shop/redact", {"shop_id": 1, "shop_domain": SHOP}).status_code == 200
    assert world.run(vault.address(SHOP, "bob.norman@example.com")) != mine, "whoever comes back begins anew"
    world.sql("UPDATE customer_keys SET wrapped = NULL, destroyed_at = now() WHERE customer_id = 'addresses'")
    assert world.run(Vault(MasterKeys([MASTER]), world.services.pool).address(SHOP, "bob.norman@example.com")) is None


@pytest.mark.parametrize(("topic", "payload"), [("orders/paid", ORDER), ("customers/update", CUSTOMER)])
def test_what_shopify_calls_as_we_do_is_not_ours(world: World, topic: str, payload: dict[str, Any]) -> None:
    sealed = world.contact("1", "eve@example.com")
    theirs = {"address": "mail-" + "0" * 32, "contact": sealed, "consent": sealed, "consent_at": "2026-11-21T09:00:00Z"}
    assert world.webhook(topic, {**payload, **theirs}).status_code == 200
    assert world.webhook(topic, {**payload, **theirs, "email": None, "customer": None}).status_code == 200
    for each in world.publisher.values():
        assert not set(theirs.values()) & {each["payload"].get(name) for name in theirs}


def test_a_redaction_reaches_whom_the_address_names(world: World) -> None:
    world.webhook("orders/paid", {**ORDER, "customer": None})
    payload = world.publisher.values()[0]["payload"]
    assert told(world, payload["address"], payload) == ("bob.norman@example.com", None)
    whose = {"id": CUSTOMER["id"], "email": " BOB.norman@example.com"}
    assert world.webhook("customers/redact", {"shop_domain": SHOP, "customer": whose}).status_code == 200
    assert told(world, payload["address"], payload) == (None, None)
    kept = world.publisher.values()[-1]["payload"]
    assert kept == {"shop_domain": SHOP, "customer": {"id": CUSTOMER["id"]}}
    world.webhook("orders/updated", {**ORDER, "customer": None})
    late = world.publisher.values()[-1]["payload"]
    assert (late["address"], late["contact"]) == (payload["address"], None)


def test_a_customer_without_an_address_has_no_contact(world: World) -> None:
    assert world.webhook("customers/update", {**CUSTOMER, "email": None}).status_code == 200
    assert only(world, topics.CUSTOMERS)["payload"]["contact"] is None


def test_a_redaction_holds_at_once_and_for_ever(world: World) -> None:
    customer_id = str(CUSTOMER["id"])
    world.webhook("customers/update", CUSTOMER)
    world.webhook("orders/paid", b'{"email": "bob.norman@example.com", trunc')
    sealed = world.publisher.values()[0]["payload"]["contact"]
    body = world.publisher.values()[1]["sealed"]
    assert world.run(world.services.vault.open_body(SHOP, body)) is not None
    redact = {"shop_domain": SHOP, "customer": {"id": CUSTOMER["id"], "email": "bob.norman@example.com"}}
    for _ in range(2):
        assert world.webhook("customers/redact", redact).status_code == 200
    assert world.run(world.services.vault.open(SHOP, customer_id, sealed)) is None
    assert world.run(world.services.vault.open_body(SHOP, body)) is None
    assert world.webhook("customers/update", CUSTOMER).status_code == 200
    assert world.publisher.values()[-1]["payload"]["contact"] is None
    assert b"bob." not in b"".join(each.value for each in world.publisher.messages)


def test_a_redaction_of_somebody_unknown_holds_too(world: World) -> None:
    assert (
        world.webhook("customers/redact", {"shop_domain": SHOP, "customer": {"id": CUSTOMER["id"]}}).status_code == 200
    )
    assert world.webhook("customers/update", CUSTOMER).status_code == 200
    assert world.publisher.values()[-1]["payload"]["contact"] is None


def test_a_shops_redaction_reaches_all_its_customers_and_no_other_shop(world: World) -> None:
    mine = world.contact("1", "a@x.com")
    theirs = world.contact("1", "a@x.com", shop="other.myshopify.com")
    assert world.webhook("shop/redact", {"shop_id": 1, "shop_domain": SHOP}).status_code == 200
    assert world.run(world.services.vault.open(SHOP, "1", mine)) is None
    assert world.run(world.services.vault.open("other.myshopify.com", "1", theirs)) is not None
    assert world.webhook("customers/create", {**CUSTOMER, "id": 2}).status_code == 200
    assert world.publisher.values()[-1]["payload"]["contact"] is not None


def test_headers_alone_cannot_have_another_shop_erased(world: World) -> None:
    sealed = world.contact("1", "a@x.com")
    for topic, payload in (("shop/redact", {"shop_id": 1}), ("customers/redact", {"customer": {"id": 1}})):
        world.publisher.messages.clear()
        assert world.webhook(topic, {**payload, "shop_domain": "evil.myshopify.com"}).status_code == 200
        letter(world, "other_shop")
    assert world.run(world.services.vault.open(SHOP, "1", sealed)) is not None


# --- dead letters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "body", "error"),
    [
        ("orders/paid", json.dumps(ORDER).encode()[:-40], "bad_json"),
        ("orders/paid", b"{\xff\xfe bob.", "bad_json"),
        ("orders/paid", b'{"id": NaN, "email": "bob.norman@example.com"}', "bad_json"),
        ("orders/paid", b'{"id": 1, "test": "bob. \\ud800"}', "wrong_type"),
        ("orders/paid", b'{"a":' * 100_000, "bad_json"),
        ("customers/create", b'{"id": 1, "email": "bob.\\ud800@x.de"}', "bad_json"),
        ("customers/update", b'{"id": 1, "email": "\\udfff bob."}', "bad_json"),
        ("orders/paid", json.dumps({**ORDER, "line_items": "bob."}).encode(), "wrong_type"),
        ("orders/paid", json.dumps({**ORDER, "customer": "bob."}).encode(), "wrong_type"),
        ("orders/paid", json.dumps({**ORDER, "created_at": ["bob."]}).encode(), "bad_time"),
        ("orders/paid", json.dumps({**ORDER, "id": None}).encode(), "bad_id"),
        ("orders/paid", json.dumps({**ORDER, "id": "bob.norman@example.com"}).encode(), "bad_id"),
        ("orders/paid", json.dumps({**ORDER, "id": -1}).encode(), "bad_id"),
        ("orders/paid", json.dumps({**ORDER, "id": 10**30}).encode(), "bad_id"),
        ("refunds/create", b'{"id": 1, "note": "bob."}', "bad_id"),
        ("customers/merge", b'{"admin_graphql_api_customer_kept_id": 5}', "bad_id"),
        ("orders/paid", json.dumps({**ORDER, "currency": {"name": "bob."}}).encode(), "wrong_type"),
        ("orders/paid", json.dumps({**ORDER, "customer": {"id": {"email": "bob."}}}).encode(), "bad_id"),
        ("orders/paid", json.dumps({**ORDER, "updated_at": "bob."}).encode(), "bad_time"),
    ],
)
def test_what_cannot_be_minimised_is_sealed(world: World, topic: str, body: bytes, error: str) -> None:
    assert world.webhook(topic, body).status_code == 200
    found = letter(world, error)
    assert (json.loads(found["value"])["payload"], found["shop"], found["key"]) == (None, SHOP, SHOP)
    assert world.run(world.services.vault.open_body(SHOP, found["sealed"])) == body


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"X_Shopify_Triggered_At": "2026-11-21T09:00:00"}, "naive_time"),
        ({"X_Shopify_Triggered_At": "yesterday"}, "bad_time"),
        ({"X_Shopify_Triggered_At": "1969-01-01T00:00:00Z"}, "bad_time"),
        ({"X_Shopify_Shop_Domain": "nest.example.com"}, "bad_shop"),
        ({"X_Shopify_Shop_Domain": ""}, "bad_shop"),
    ],
)
def test_what_was_minimised_is_kept_to_be_read(world: World, headers: dict[str, str], error: str) -> None:
    assert world.webhook("orders/paid", ORDER, **headers).status_code == 200
    found = letter(world, error)
    assert json.loads(found["value"])["payload"]["current_subtotal_price"] == "129.90"
    assert found["sealed"] is None


@pytest.mark.parametrize("topic", [None, "", "orders/", "orders/teleported", "products/create", "bob.@x"])
def test_a_topic_that_nobody_uses_is_passed_and_leaves_nothing(world: World, topic: str | None) -> None:
    before = counted(world, "ignored")
    assert world.webhook(topic, ORDER).status_code == 200
    assert world.publisher.messages == []
    assert counted(world, "ignored") == before + 1


@pytest.mark.parametrize("behind", ["%0A", "/", "%20", "%00", "//", "/x"])
def test_another_path_is_another(world: World, behind: str) -> None:
    answer = world.client.post(f"/webhooks/shopify{behind}", content=b"{}", headers={"X-Shopify-Topic": "orders/paid"})
    assert answer.status_code in (307, 404)
    assert world.publisher.messages == []


def test_no_headers_at_all(world: World) -> None:
    body = json.dumps(ORDER).encode()
    headers = {"X-Shopify-Hmac-Sha256": sign(body, SECRETS[0])}
    assert world.client.post("/webhooks/shopify", content=body, headers=headers).status_code == 200
    assert world.publisher.messages == []


@pytest.mark.parametrize(
    "body", [b"", b"null", b'"bob."', b'["bob."]', b"[" * 100_000, b"\xff\xfe", b"eyJhbGciOiJIUzI1NiJ9.e30"]
)
def test_a_signed_body_that_is_no_json_object_leaves_nothing(world: World, body: bytes) -> None:
    """The app's secret signs session tokens too: whoever holds one must not be able to fill the dead letters."""
    before = counted(world, "unusable")
    assert world.webhook("orders/paid", body).status_code == 200
    assert world.publisher.messages == []
    assert counted(world, "unusable") == before + 1


def counted(world: World, outcome: str) -> float:
    """Webhooks with this outcome, by the API's own metrics."""
    lines = world.client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("loyalnest_webhooks_total") and f'"{outcome}"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def test_an_overlong_webhook_id_is_none(world: World) -> None:
    assert world.webhook("orders/paid", ORDER, X_Shopify_Webhook_Id="x" * 129).status_code == 200
    assert len(only(world, topics.ORDERS)["webhook_id"]) == 64


def test_ten_megabytes_are_taken(world: World) -> None:
    body = json.dumps({**ORDER, "note": ""}).encode()
    body = body.replace(b'"note": ""', b'"note": "' + b"x" * (10 * 1024 * 1024 - len(body)) + b'"')
    assert len(body) == 10 * 1024 * 1024
    assert world.webhook("orders/paid", body).status_code == 200
    only(world, topics.ORDERS)


def test_more_is_described_and_not_kept(world: World) -> None:
    body = b'{"note": "' + b"bob" * 4_000_000
    assert world.webhook("orders/paid", body).status_code == 200
    found = letter(world, "too_large")
    assert (json.loads(found["value"])["payload"], found["sealed"]) == (None, None)
    assert found["detail"] == f"{len(body)} bytes, sha256 {sha256(body).hexdigest()}"
    assert world.webhook("orders/paid", body, secret="wrong").status_code == 401


def test_an_unreadable_body_too_large_to_seal_is_described(world: World) -> None:
    assert world.webhook("orders/paid", b"{ bob" * 1_800_000).status_code == 200
    found = letter(world, "bad_json")
    assert (json.loads(found["value"])["payload"], found["sealed"]) == (None, None)
    assert "9000000 bytes, not kept" in found["detail"]
