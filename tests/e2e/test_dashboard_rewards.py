"""Holds, expiry and rewards on the dashboard's page of a program, in a real browser."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browsers import page_of
from tests.e2e.test_dashboard import sign_in
from tests.integration.api_world import SHOP, World

pytestmark = [pytest.mark.slow]

PATH = f"/shops/{SHOP}/program"
SAID = {"reward_id": "ten-off", "cost": 500, "kind": "amount", "value": "10", "name": "10 off", "valid_days": 90}


def since(**ahead: int) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


def program(world: World) -> Any:
    return world.get("/program", world.key("read")).json()


def announce(page: Page) -> None:
    with page.expect_navigation():  # the page comes anew once it is announced
        page.get_by_role("button", name="Announce").click()
        expect(page.get_by_text("Announced.")).to_be_visible()


def ahead(text: str) -> timedelta:
    return datetime.fromisoformat(text) - datetime.now(UTC)


def test_a_hold_an_expiry_and_a_reward_are_set(world: World, browser: Browser) -> None:
    world.program()
    with page_of(browser, str(world.client.base_url), locale="en-US") as page:
        sign_in(world, page, "read", "admin")
        page.goto(PATH)
        expect(page.get_by_text("they can be spent at once")).to_be_visible()
        expect(page.get_by_text("There is nothing yet that points can be spent on.")).to_be_visible()
        page.get_by_label("A new hold").fill("14")
        page.get_by_label("A new expiry").fill("365")
        page.locator("[name=life_calendar]").select_option("year")
        values = {"Id": "ten-off", "Name": "10 off", "Points": "500", "Worth": "10,50", "Orders from": "50"}
        more = {"At most so many times": "1", "in so many days": "30", "Valid for days": "90"}
        rewards = page.get_by_role("region", name="Rewards")
        for label, value in (values | more).items():
            rewards.get_by_label(label, exact=label in values and label not in ("Worth", "Orders from")).fill(value)
        rewards.get_by_label("Names in other languages").fill("de: 10 weniger\nfr: 10: de moins")
        page.get_by_role("button", name="See what would change").click()
        expect(page.get_by_role("heading", name="What would change")).to_be_visible()
        announce(page)
        expect(page.locator("[data-rewards]").get_by_role("cell", name="10 off ten-off")).to_be_visible()
        expect(page.locator("[data-rewards]").get_by_role("cell", name="money off an order")).to_contain_text("$10.50")
        expect(page.locator("[data-holds]").get_by_role("cell", name="14", exact=True)).to_be_visible()
        expect(page.locator("[data-expiry]").get_by_role("cell", name="at the next new year")).to_be_visible()
    told = program(world)
    (hold,), (life,), (reward,) = told["holds"], told["expiry"], told["rewards"]
    assert (hold["hold_days"], life["life_days"], life["calendar"]) == (14, 365, "year")
    assert timedelta(minutes=13) < ahead(hold["effective_from"]) < timedelta(minutes=18)
    assert timedelta(days=30, minutes=-3) < ahead(life["effective_from"]) < timedelta(days=30, minutes=3)
    assert (reward["value"], reward["min_order"], reward["limit"]) == ("10.5", "50", {"count": 1, "days": 30})
    assert reward["names"] == {"de": "10 weniger", "fr": "10: de moins"}
    assert (reward["valid_days"], reward["unused"], reward["on_void"]) == (90, "forfeit", "return")


def test_how_long_a_customer_may_be_inactive_is_set(world: World, browser: Browser) -> None:
    world.program()
    with page_of(browser, str(world.client.base_url), locale="en-US") as page:
        sign_in(world, page, "read", "admin")
        page.goto(PATH)
        page.get_by_label("A new expiry").fill("180")
        page.locator("[name=life_calendar]").select_option("inactive")
        announce(page)
        cell = page.locator("[data-expiry]").get_by_role("cell", name="unless the customer is active before")
        expect(cell).to_be_visible()
        page.get_by_label("A new expiry").fill("365")
        page.get_by_role("button", name="Announce").click()
        expect(page.get_by_text("by life_days or by inactive_days")).to_be_visible()
    (inactivity,) = program(world)["expiry"]
    assert inactivity["inactive_days"] == 180


def test_a_reward_is_changed_and_ended_with_what_would_have_begun_later(world: World, browser: Browser) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    later = SAID | {"cost": 600, "effective_from": since(days=3)}
    world.program(rewards=[SAID, later])
    with page_of(browser, str(world.client.base_url), locale="en-US", timezone_id="UTC") as page:
        sign_in(world, page, "read", "admin")
        page.goto(PATH)
        page.get_by_role("button", name="Change 10 off").first.click()
        rewards = page.get_by_role("region", name="Rewards")
        expect(rewards.get_by_label("Id", exact=True)).to_have_value("ten-off")
        expect(rewards.get_by_label("Valid for days")).to_have_value("90")
        rewards.get_by_label("Points", exact=True).fill("550")
        announce(page)
        assert [each["cost"] for each in program(world)["rewards"]] == [500, 550, 600]
        page.get_by_label("End a reward").select_option("ten-off")
        page.locator("[name=ended_from]").fill(f"{tomorrow:%Y-%m-%dT%H:%M}")
        announce(page)
        expect(page.locator("[data-rewards] tbody tr")).to_have_count(2)  # as it is now, and until then
    told = program(world)["rewards"]
    assert [each["cost"] for each in told if each["until"] is not None] == [550, 600]
    assert all(each["until"] == each["effective_from"] for each in told if each["until"] is not None)
    assert [ahead(each["until"]).days for each in told if each["until"] is not None] == [0, 2]


def test_what_is_wrong_is_told_and_who_may_only_read_changes_nothing(world: World, browser: Browser) -> None:
    world.program(rewards=[SAID])
    with page_of(browser, str(world.client.base_url), locale="en-US") as page:
        sign_in(world, page, "read", "admin")
        page.goto(PATH)
        page.get_by_text("A new reward, or another version of one").click()
        rewards = page.get_by_role("region", name="Rewards")
        rewards.get_by_label("Name", exact=True).fill("No id")
        page.get_by_role("button", name="Announce").click()
        expect(page.get_by_role("alert")).to_contain_text("reward_id")
        assert world.publisher.messages == []
    with page_of(browser, str(world.client.base_url), locale="en-US") as page:
        sign_in(world, page)
        page.goto(PATH)
        expect(page.get_by_label("A new hold")).to_be_disabled()
        expect(page.get_by_role("button", name="Change 10 off")).to_have_count(0)


def test_the_catalogue_is_in_the_readers_language(world: World, browser: Browser) -> None:
    said = SAID | {"names": {"de": "10 weniger"}, "limit": {"count": 2, "days": 30}, "min_order": "1000"}
    world.program(rewards=[said], holds=[{"hold_days": 14}], expiry=[{"life_days": 365}])
    with page_of(browser, str(world.client.base_url), locale="de-DE") as page:
        page.goto("/")
        page.get_by_label("API-Schlüssel").fill(world.key("read", "admin")["Authorization"].removeprefix("Bearer "))
        page.get_by_role("button", name="Anmelden").click()
        page.wait_for_url(f"**/shops/{SHOP}")
        page.goto(PATH)
        row = page.locator("[data-rewards] tbody tr")
        expect(row).to_contain_text("10 weniger")
        expect(row).to_contain_text("2-mal in 30 Tagen")
        expect(row).to_contain_text("1.000,00")
        expect(page.locator("[data-expiry]")).to_contain_text("um die nächste Mitternacht")
        page.get_by_text("Eine neue Prämie, oder eine andere Fassung von einer").click()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
