"""Pages whose session has ended, or whose server is away, while somebody is at them; and days as they are typed."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsers import page_of
from tests.e2e.test_dashboard import sign_in
from tests.integration.api_world import SHOP, World, opened

pytestmark = [pytest.mark.slow]


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        running.customer("1", segment="Champions", segment_id="seg_555", r=5, f=5, m=5)
        yield running


@pytest.fixture
def page(world: World, browser: Browser) -> Iterator[Page]:
    with page_of(browser, str(world.client.base_url), locale="en-US") as opened_page:
        sign_in(world, opened_page, "read", "export", "adjust", "admin")
        yield opened_page


def sign_out(world: World) -> None:
    world.sql("UPDATE dashboard_sessions SET revoked_at = now()")


def test_who_was_signed_out_meanwhile_is_told_and_led_back(world: World, page: Page) -> None:
    expect(page.locator("[data-part=movement]")).to_contain_text("moved between")
    sign_out(world)
    page.get_by_label("since").fill("2026-11-20")
    told = page.get_by_role("alert")
    expect(told).to_have_text("You are no longer signed in. Sign in again")
    expect(page.locator("[data-part=movement]")).to_contain_text("moved between")  # and no form of sign-in
    expect(page.get_by_label("API key")).to_have_count(0)
    told.get_by_role("link").click()
    sign_in_again(world, page)
    page.wait_for_url(f"**/shops/{SHOP}")


def test_a_live_page_tells_that_its_session_is_over(world: World, page: Page) -> None:
    page.goto(f"/shops/{SHOP}/customers/1")
    sign_out(world)
    world.services.live.close()  # ends every stream, as a heartbeat does of whoever is signed out
    world.services.live._closed = False
    expect(page.get_by_text("You are no longer signed in.")).to_be_visible()
    expect(page.locator("[data-lost]")).to_be_hidden()


def sign_in_again(world: World, page: Page) -> None:
    key = world.key("read", "adjust")["Authorization"].removeprefix("Bearer ")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("form", ["find", "adjust"])
def test_a_form_of_who_is_signed_out_leads_to_its_page(world: World, page: Page, form: str) -> None:
    page.goto(f"/shops/{SHOP}/customers/1?names=6f9619ff-8b86-d011-b42d-00c04fc964ff")
    sign_out(world)
    if form == "find":
        page.get_by_role("searchbox").fill("1")
        page.keyboard.press("Enter")
    else:
        page.get_by_role("spinbutton", name="Points").fill("5")
        page.get_by_label("Reason").fill("a review")
        page.get_by_role("button", name="Give or take").click()
    sign_in_again(world, page)
    expect(page.get_by_role("heading", name="Customer 1")).to_be_visible()
    assert page.url.endswith("/customers/1?names=6f9619ff-8b86-d011-b42d-00c04fc964ff")


def test_another_sites_form_leads_nowhere_of_its_own(world: World) -> None:
    path, sent = f"/shops/{SHOP}/customers", {"who": "1"}
    for referer in ("https://evil.example/x", "", "//evil.example", "x"):
        answer = world.client.post(path, data=sent, headers={"Referer": referer}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2F"), referer


@pytest.mark.parametrize(
    ("path", "button"),
    [
        ("/program", "See what would change"),
        ("/program", "Announce"),
        ("/notices", "Add"),
        ("/exports", "Download"),
        ("/exports", "Make it aside"),
    ],
)
@pytest.mark.parametrize("away", ["connection", "proxy"])
def test_a_button_says_so_where_the_server_is_away(page: Page, path: str, button: str, away: str) -> None:
    page.goto(f"/shops/{SHOP}{path}")
    if path == "/notices":
        page.get_by_label("Address").fill("https://example.com/hook")
    if away == "connection":
        page.context.set_offline(True)
    else:
        page.route("**/v1/**", lambda route: route.fulfill(status=502, content_type="text/html", body="<p>Bad gateway"))
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached just now")


def test_a_day_is_typed_digit_by_digit(world: World, page: Page) -> None:
    """A browser tells of each year that is typed so far: 0002, 0020, 0202, 2026."""
    moved = page.locator("[data-part=movement]")
    tomorrow = datetime.now(ZoneInfo("America/New_York")).date() + timedelta(days=1)
    for day in ("0002-11-20", "1969-12-31", "1970-01-01", tomorrow.isoformat(), "9999-12-31"):
        with page.expect_response("**/parts/movement?**") as answer:
            page.get_by_label("since").evaluate("(each, day) => { each.max = ''; each.value = day; }", day)
            page.get_by_label("since").dispatch_event("change")
        assert answer.value.status == 200
        expect(moved).to_contain_text("This is a time to come, or none")
        found = page.request.get(f"/shops/{SHOP}/movement?since={day}")
        assert (found.status, "This is a time to come, or none" in found.text()) == (422, True), day
    page.get_by_label("since").fill("")  # the newest batch
    expect(moved).to_contain_text("No batch has run by then")


def test_what_is_wrong_with_a_part_stands_in_its_place(page: Page) -> None:
    page.route("**/parts/movement?**", lambda route: route.continue_(url=route.request.url + "&since=x"))
    page.reload()
    expect(page.locator("[data-part=movement]")).to_contain_text("Something that was said cannot be so")


@pytest.mark.parametrize(
    "tail", ["/redemptions?status=issued&named=a%26b", "/segments/Champions?sort=score", "/customers/1"]
)
def test_another_language_shows_the_same(page: Page, tail: str) -> None:
    page.goto(f"/shops/{SHOP}{tail}")
    page.get_by_role("link", name="Deutsch").click()
    expect(page.get_by_role("button", name="Abmelden")).to_be_visible()
    assert page.url.endswith(f"/shops/{SHOP}{tail}")
