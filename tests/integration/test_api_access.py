"""Who may ask what: no key, a wrong one, a revoked one, one without the scope, and another shop's."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from books import api_keys
from tests.integration.api_world import NOW, OTHER, PROGRAM, SHOP, World, opened

READ = [
    "/segments",
    "/segments?as_of=2026-11-21T00:00:00Z",
    "/segments/movement",
    "/segments/movement/customers",
    "/segments/history?from=2026-11-01&to=2026-11-21",
    "/cohorts",
    "/customers",
    "/customers/1",
    "/customers/1/account",
    "/customers/1/adjustments",
    "/customers/1/redemptions",
    "/redemptions",
    "/redemptions/totals",
    "/customers/1/points",
    "/customers/1/rfm",
    "/customers/1/orders",
    "/points/windows",
    "/program",
    "/program/versions",
    "/rewards",
    "/lag",
    "/live",
]
ENDPOINTS = [("GET", path, "read") for path in READ] + [
    ("GET", "/exports/segments.csv", "export"),
    ("PUT", "/program", "admin"),
    ("POST", "/program/preview", "admin"),
    ("GET", "/dead-letters", "admin"),
]


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        running.customer("1")
        running.batch(NOW - timedelta(days=30), {"1": "Loyal"})
        yield running


def status(world: World, method: str, path: str, headers: dict[str, str], shop: str = SHOP) -> int:
    body = {**PROGRAM, "shop": shop} if method in ("PUT", "POST") else None
    headers = headers | ({"If-Match": "*"} if method == "PUT" else {})
    with world.client.stream(method, f"/v1/shops/{shop}{path}", headers=headers, json=body) as answer:
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code


def test_every_endpoint_wants_a_key_of_its_scope_and_shop(world: World) -> None:
    everything = world.key(*api_keys.SCOPES, shop=OTHER)
    world.program(shop=OTHER)
    for method, path, scope in ENDPOINTS:
        others = world.key(*[each for each in api_keys.SCOPES if each != scope])
        assert status(world, method, path, world.key(scope)) < 300, path
        assert status(world, method, path, {}) == 401, path
        assert status(world, method, path, others) == 403, path
        assert status(world, method, path, everything) == 404, path
        assert status(world, method, path, everything, shop="no-such-shop.myshopify.com") == 404, path


def test_another_shops_customer_is_nobodys(world: World) -> None:
    world.program(shop=OTHER)
    world.customer("2", shop=OTHER)
    headers = world.key(*api_keys.SCOPES)
    for path in ("/customers/2", "/customers/2/points", "/customers/2/rfm"):
        assert status(world, "GET", path, headers) == 404
    assert [each["customer_id"] for each in world.get("/customers", headers).json()["items"]] == ["1"]
    assert "\r\n2," not in world.get("/exports/segments.csv", headers).text


def test_a_key_is_shown_once_and_kept_as_a_hash(world: World) -> None:
    key = world.key("read")["Authorization"].removeprefix("Bearer ")
    _, key_id, secret = key.split("_", 2)
    assert len(secret) == 43
    stored = world.sql("SELECT * FROM api_keys")[0]
    assert stored["id"] == key_id
    assert secret not in str(stored)


def test_a_revoked_key_stops_at_once(world: World) -> None:
    headers = world.key("read")
    key = headers["Authorization"].removeprefix("Bearer ")

    async def revoked() -> tuple[bool, bool]:
        async with world.services.pool.connection() as connection:
            known = await api_keys.revoke(connection, key, NOW)
            return known, await api_keys.revoke(connection, "nobody", NOW)

    assert status(world, "GET", "/segments", headers) == 200
    assert world.run(revoked()) == (True, False)
    assert status(world, "GET", "/segments", headers) == 401


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer x",
        "Bearer ln_",
        "Bearer ln_000000000000_secret",
        "Bearer ln__",
        "Bearer " + "x" * 5000,
        "Basic bG46eA==",
        "{key}x",
        "{key}".replace("Bearer", "Basic"),
    ],
)
def test_what_is_no_key(world: World, authorization: str) -> None:
    key = world.key("read")["Authorization"]
    given = authorization.replace("{key}", key) if authorization.endswith("x") else authorization
    if authorization == "{key}":
        given = key.replace("Bearer", "Basic")
    assert status(world, "GET", "/segments", {"Authorization": given} if given else {}) == 401


def test_a_key_in_the_address_is_none(world: World) -> None:
    key = world.key("read")["Authorization"].removeprefix("Bearer ")
    assert world.client.get(f"/v1/shops/{SHOP}/segments?key={key}&access_token={key}").status_code == 401


def test_keys_are_listed_without_their_secrets(world: World) -> None:
    world.key("read")
    world.key("export", "pii", shop=OTHER)

    async def listed(shop: str | None) -> list[api_keys.ApiKey]:
        async with world.services.pool.connection() as connection:
            return await api_keys.listing(connection, shop)

    assert [each.scopes for each in world.run(listed(OTHER))] == [["export", "pii"]]
    assert len(world.run(listed(None))) == 2


@pytest.mark.parametrize("scopes", [(), ("root",), ("read", "write")])
def test_scopes_there_are_not(world: World, scopes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="scopes are"):
        world.key(*scopes)


def test_errors_are_problems_everywhere(world: World) -> None:
    headers = world.key("read")
    for path, expected in (
        ("/nowhere", 404),
        (f"/v1/shops/{SHOP}/segments?as_of=2026-11-21T00:00:00", 422),
        (f"/v1/shops/{SHOP}/segments?as_of=yesterday", 422),
        (f"/v1/shops/{SHOP}/segments?as_of=0001-01-01T00:00:00Z", 422),
        (f"/v1/shops/{SHOP}/customers?limit=0", 422),
        (f"/v1/shops/{SHOP}/customers?sort=email", 422),
        (f"/v1/shops/{SHOP}/customers?segment=%00", 422),
        (f"/v1/shops/{SHOP}/customers?cursor=nonsense", 400),
        (f"/v1/shops/{SHOP}/products?cursor=nonsense", 400),
        (f"/v1/shops/{SHOP}/products?sort=name", 422),
        (f"/v1/shops/{SHOP}/customers/%00", 422),
        (f"/v1/shops/{SHOP}/customers/1/points?cursor=WzEsMl0", 400),
        (f"/v1/shops/{SHOP}/customers/1/rfm?cursor=WyJ4IiwieSJd", 400),
    ):
        answer = world.client.get(path, headers=headers)
        assert answer.status_code == expected, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail"} <= set(answer.json())
    wrong = world.client.delete(f"/v1/shops/{SHOP}/segments", headers=headers)
    assert (wrong.status_code, wrong.headers["content-type"]) == (405, "application/problem+json")


def test_health_readiness_metrics_and_docs_need_no_key(world: World) -> None:
    assert world.client.get("/healthz").json() == {"status": "ok"}
    assert world.client.get("/readyz").json()["status"] == "ready"
    assert "loyalnest_webhooks_total" in world.client.get("/metrics").text
    assert world.client.get("/docs").status_code == 200
    world.publisher.well = False
    answer = world.client.get("/readyz")
    assert (answer.status_code, answer.json()["publisher"]) == (503, False)


def test_openapi_describes_every_route_with_problems_and_examples(world: World) -> None:
    schema = world.client.get("/openapi.json").json()
    described = {(method.upper(), path) for path, each in schema["paths"].items() for method in each}
    assert {
        ("POST", "/webhooks/shopify"),
        ("GET", "/v1/shops/{shop}/segments"),
        ("GET", "/v1/shops/{shop}/segments/movement"),
        ("GET", "/v1/shops/{shop}/segments/movement/customers"),
        ("GET", "/v1/shops/{shop}/segments/history"),
        ("GET", "/v1/shops/{shop}/cohorts"),
        ("GET", "/v1/shops/{shop}/customers"),
        ("GET", "/v1/shops/{shop}/customers/{customer_id}"),
        ("POST", "/v1/shops/{shop}/customers/find"),
        ("GET", "/v1/shops/{shop}/customers/{customer_id}/account"),
        ("GET", "/v1/shops/{shop}/customers/{customer_id}/adjustments"),
        ("POST", "/v1/shops/{shop}/customers/{customer_id}/adjustments"),
        ("GET", "/v1/shops/{shop}/customers/{customer_id}/adjustments/{award_id}"),
        ("DELETE", "/v1/shops/{shop}/customers/{customer_id}/adjustments/{award_id}"),
        ("GET", "/v1/shops/{shop}/customers/{customer_id}/redemptions"),
        ("POST", "/v1/shops/{shop}/customers/{customer_id}/redemptions"),
        ("GET", "/v1/shops/{shop}/customers/{customer_id}/redemptions/{request_id}"),
        ("POST", "/v1/shops/{shop}/customers/{customer_id}/redemptions/{request_id}/cancel"),
        ("POST", "/v1/shops/{shop}/customers/{customer_id}/redemptions/{request_id}/fulfilment"),
        ("GET", "/v1/shops/{shop}/redemptions"),
        ("GET", "/v1/shops/{shop}/redemptions/totals"),
        ("GET", "/v1/shops/{shop}/customers/{customer_id}/points"),
        ("GET", "/v1/shops/{shop}/customers/{customer_id}/rfm"),
        ("GET", "/v1/shops/{shop}/customers/{customer_id}/orders"),
        ("GET", "/v1/shops/{shop}/products"),
        ("GET", "/v1/shops/{shop}/points/windows"),
        ("GET", "/v1/shops/{shop}/exports/segments.csv"),
        ("GET", "/v1/shops/{shop}/exports"),
        ("POST", "/v1/shops/{shop}/exports"),
        ("GET", "/v1/shops/{shop}/exports/{export_id}"),
        ("GET", "/v1/shops/{shop}/exports/{export_id}/events"),
        ("GET", "/v1/shops/{shop}/exports/{export_id}/file"),
        ("GET", "/v1/shops/{shop}/program"),
        ("PUT", "/v1/shops/{shop}/program"),
        ("POST", "/v1/shops/{shop}/program/preview"),
        ("GET", "/v1/shops/{shop}/program/versions"),
        ("GET", "/v1/shops/{shop}/rewards"),
        ("GET", "/v1/shops/{shop}/dead-letters"),
        ("POST", "/v1/shops/{shop}/dead-letters/{letter}/replay"),
        ("GET", "/v1/shops/{shop}/imports"),
        ("POST", "/v1/shops/{shop}/imports"),
        ("GET", "/v1/shops/{shop}/imports/{import_id}"),
        ("GET", "/v1/shops/{shop}/batches"),
        ("GET", "/v1/shops/{shop}/batches/{run}/report"),
        ("GET", "/v1/shops/{shop}/lag"),
        ("GET", "/v1/shops/{shop}/live"),
        ("GET", "/v1/shops/{shop}/webhooks"),
        ("POST", "/v1/shops/{shop}/webhooks"),
        ("DELETE", "/v1/shops/{shop}/webhooks/{endpoint}"),
        ("GET", "/v1/shops/{shop}/webhooks/{endpoint}/deliveries"),
        ("POST", "/v1/shops/{shop}/webhooks/{endpoint}/deliveries/{delivery}/replay"),
        ("POST", "/v1/shops/{shop}/webhooks/{endpoint}/test"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
    } == described
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
            assert operation["tags"]
            for code, answer in operation["responses"].items():
                if path.startswith("/v1") and code >= "400" and code != "416":  # a range: the server's own answer
                    assert list(answer["content"]) == ["application/problem+json"]
