"""The dashboard in a real browser: who may come in, and that every figure is the API's."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Browser, Page, expect

from books import sessions
from tests.browsers import page_of, started
from tests.integration.api_world import OTHER, SHOP, World, opened, prospect

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as running:
        yield running


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        running.customer("1", segment="Champions", segment_id="seg_555", r=5, f=5, m=5, monetary=250_000, balance=2500)
        running.customer("2")
        running.customer("3", **prospect())
        yield running


@pytest.fixture
def page(world: World, browser: Browser) -> Iterator[Page]:
    with page_of(browser, str(world.client.base_url)) as opened_page:
        yield opened_page


def sign_in(world: World, page: Page, *scopes: str) -> None:
    key = world.key(*(scopes or ("read", "export")))["Authorization"].removeprefix("Bearer ")
    page.goto("/")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/shops/{SHOP}")


def link(world: World, *shops: str) -> str:
    async def made() -> str:
        async with world.services.pool.connection() as connection:
            return await sessions.make_link(connection, shops or (SHOP,), ["read"], datetime.now(UTC))

    return str(world.run(made()))


def test_a_key_signs_in_and_signs_out(world: World, page: Page) -> None:
    sign_in(world, page)
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.goto(f"/shops/{SHOP}")
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_link_signs_in_once(world: World, page: Page) -> None:
    token = link(world)
    page.goto(f"/sign-in#{token}")
    page.wait_for_url(f"**/shops/{SHOP}")
    assert token not in page.url
    page.context.clear_cookies()
    answer = world.client.post("/sign-in", data={"link": token}, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 401


def test_the_overviews_figures_are_the_apis(world: World, page: Page) -> None:
    told = world.get("/segments", world.key("read")).json()
    sign_in(world, page)

    def value(name: str) -> str | None:
        return page.locator(f"[data-live={name}]").get_attribute("data-value")

    assert value("customers") == str(told["customers"]) == "3"
    assert value("active") == "2"
    assert value("revenue") == told["revenue"]["amount"]
    assert value("points") == str(sum(each["points_balance"] for each in told["segments"]))
    for each in told["segments"]:
        shown = page.locator(f"[data-segment='{each['segment']}']").first
        assert shown.get_attribute("data-value") == str(each["customers"])


def test_the_page_moves_by_itself(world: World, page: Page) -> None:
    sign_in(world, page)
    expect(page.locator("[data-live=customers]")).to_have_text("3")
    world.customer("4", segment="Champions")
    world.sql("SELECT pg_notify('loyalnest_live', json_build_object('shop', %s::text)::text)", SHOP)
    expect(page.locator("[data-live=customers]")).to_have_text("4", timeout=2000)


def test_nothing_of_another_shop_can_be_reached(world: World, page: Page) -> None:
    world.program(shop=OTHER)
    sign_in(world, page)
    for path in (f"/shops/{OTHER}", f"/v1/shops/{OTHER}/segments", f"/v1/shops/{OTHER}/live"):
        assert page.request.get(path).status == 404


def test_a_session_is_not_taken_from_another_site(world: World, page: Page) -> None:
    sign_in(world, page, "read", "admin")
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
        answer = page.request.put(f"/v1/shops/{SHOP}/program", data={}, headers=headers)
        assert answer.status == 403, answer.text()


def test_a_session_ends_with_its_key(world: World, page: Page) -> None:
    sign_in(world, page)
    world.sql("UPDATE api_keys SET revoked_at = now()")
    assert page.request.get(f"/v1/shops/{SHOP}/segments").status == 401
    page.goto(f"/shops/{SHOP}")
    expect(page.get_by_label("API key")).to_be_visible()


def test_an_idle_session_ends(world: World, page: Page) -> None:
    sign_in(world, page)
    world.sql("UPDATE dashboard_sessions SET seen_at = %s", datetime.now(UTC) - sessions.IDLE - timedelta(seconds=1))
    assert page.request.get(f"/v1/shops/{SHOP}/segments").status == 401


def test_the_pages(world: World, page: Page) -> None:
    sign_in(world, page)
    page.locator(".cell", has_text="Champions").click()
    expect(page.get_by_role("heading", name="Champions")).to_be_visible()
    page.get_by_role("link", name="1", exact=True).click()
    expect(page.get_by_role("heading", name="Customer 1")).to_be_visible()
    page.get_by_role("link", name="Products").click()
    expect(page.get_by_role("heading", name="Products")).to_be_visible()
    page.get_by_role("link", name="System").click()
    expect(page.get_by_text("No batch has run yet.")).to_be_visible()
