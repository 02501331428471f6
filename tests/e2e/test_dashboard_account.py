"""What staff do of an account on the dashboard, in a real browser, decided by the real fold: adjust, redeem, cancel."""

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from api.dashboard import redemptions as redemption_pages
from tests.browsers import page_of
from tests.e2e.test_dashboard import sign_in, sign_in_with
from tests.integration.api_world import SHOP, World
from tests.integration.deciding import PROGRAM, Deciding, rewarding
from tests.integration.test_api_live import listening
from tests.integration.test_api_redemptions import ask, cancel, fulfil, give, order, read

pytestmark = [pytest.mark.slow]

STAFF = ("read", "adjust", "redeem", "fulfil")
CUSTOMER = f"/shops/{SHOP}/customers/7"


@pytest.fixture
def publisher(database: str) -> Deciding:
    return Deciding(database)


@pytest.fixture
def world(database: str, publisher: Deciding) -> Iterator[World]:
    """A shop with rewards whose customer 7 has 25 points."""
    with rewarding(database, publisher) as running:
        give(running, 25)
        listening(running)
        yield running


@pytest.fixture
def page(world: World, browser: Browser) -> Iterator[Page]:
    with page_of(browser, str(world.client.base_url), locale="en-US") as opened_page:
        sign_in(world, opened_page, *STAFF)
        opened_page.goto(CUSTOMER)
        yield opened_page


def account(page: Page, name: str) -> Locator:
    return page.locator(f"#account ~ dl [data-figure=points_{name}]")


def by_hand(page: Page) -> Locator:
    return page.get_by_role("region", name="By hand")


def adjustments(world: World) -> list[Any]:
    items = world.get("/customers/7/adjustments", world.key("read")).json()["items"]
    return [(each["points"], each["reason"], each["source"], each["counts_as_earned"]) for each in items]


def say(page: Page, way: str, points: str, reason: str) -> None:
    form = by_hand(page)
    form.get_by_label(way, exact=True).check()
    form.get_by_label("Points", exact=True).fill(points)
    form.get_by_label("Reason").fill(reason)


GIFT = (25, None, "api", False)


def test_points_are_given_and_taken_and_taken_back(world: World, page: Page) -> None:
    form = by_hand(page)
    say(page, "Give", "50", "birthday")
    expect(form.locator("output")).to_contain_text("Can be spent: 25 → 75.")
    form.get_by_label("counts as ever earned").check()
    form.get_by_role("button", name="Give or take").click()
    expect(form.get_by_role("status").first).to_have_text("Done: +50 points, “birthday”.")
    expect(account(page, "balance")).to_have_text("75")
    expect(account(page, "earned")).to_have_text("50")
    assert adjustments(world) == [(50, "birthday", "dashboard", True), GIFT]
    say(page, "Take", "100", "counted twice")
    expect(form.locator("output")).to_contain_text("Can be spent: 75 → -25. 25 would be owed")
    form.get_by_role("button", name="Give or take").click()
    expect(account(page, "balance")).to_have_text("25")
    expect(page.get_by_role("region", name="Points", exact=True)).to_contain_text("Owed")
    form.locator("summary", has_text="Take back").nth(1).click()
    form.get_by_role("button", name="Yes, for ever").click()
    expect(form.get_by_role("status").first).to_have_text("Taken back: +50 points, “birthday”.")
    expect(form.locator("tbody tr").nth(1)).to_contain_text("taken back")
    expect(account(page, "balance")).to_have_text("75")  # owed


def test_a_form_that_is_sent_twice_asks_once(world: World, page: Page) -> None:
    say(page, "Give", "5", "a review")
    by_hand(page).get_by_role("button", name="Give or take").dblclick()
    expect(by_hand(page).get_by_role("status").first).to_contain_text("Done: +5")
    page.reload()
    expect(account(page, "balance")).to_have_text("30")
    assert adjustments(world) == [(5, "a review", "dashboard", False), GIFT]
    page.get_by_role("button", name="Redeem ten for 10 points").dblclick()
    page.wait_for_url("**/redemptions/desk-*")
    page.reload()
    assert len(read(world).json()["items"]) == 1
    # The page as it was, sent once more: with the same in it nothing happens, with something else it is refused.
    key = page.url.rpartition("/")[2].partition("?")[0]
    same: dict[str, Any] = {"key": key, "reward_id": "ten", "cost": "10"}
    for said, status, url in ((same, 200, "/desk-"), (same | {"reward_id": "rare", "cost": "2"}, 422, "/redemptions")):
        answer = page.request.post(f"{CUSTOMER}/redemptions", form=said, headers={"Sec-Fetch-Site": "same-origin"})
        assert (answer.status, url in answer.url) == (status, True)
    assert "This form was sent before" in answer.text()
    assert len(read(world).json()["items"]) == 1


def test_what_cannot_be_kept_is_told_and_what_was_said_stays(world: World, page: Page) -> None:
    form = by_hand(page)
    form.locator("form").first.evaluate("form => { form.noValidate = true; }")
    say(page, "Take", "7", "ada@example.com")
    form.get_by_role("button", name="Give or take").click()
    expect(form.get_by_role("alert")).to_contain_text("A reason is one line")
    expect(form.get_by_label("Points", exact=True)).to_have_value("7")
    expect(form.get_by_label("Take", exact=True)).to_be_checked()
    page.get_by_role("link", name="Deutsch").click()  # where a form was sent to, nothing can be read
    expect(page.get_by_role("heading", name="7").first).to_be_visible()
    assert adjustments(world) == [GIFT]
    for points in ("0", "-1", "1.5", "", "x", "9" * 20):
        said: dict[str, Any] = {"key": "k", "way": "give", "points": points, "reason": "r"}
        path, headers = f"{CUSTOMER}/adjustments", {"Sec-Fetch-Site": "same-origin"}
        assert page.request.post(path, form=said, headers=headers).status == 422, points
    no_reason: dict[str, Any] = {"key": "k", "way": "give", "points": "5", "reason": " "}
    assert page.request.post(path, form=no_reason, headers=headers).status == 422
    assert adjustments(world) == [GIFT]


def test_whoever_is_refused_sees_the_page_again(world: World, browser: Browser) -> None:
    """Each form, for whoever sees them all: one that is refused shows the others too, and each knows what it asked."""
    with page_of(browser, str(world.client.base_url), locale="en-US") as page:
        sign_in(world, page, *STAFF, "till")
        own = {"Sec-Fetch-Site": "same-origin"}
        forms: tuple[tuple[str, dict[str, Any], int], ...] = (
            ("/adjustments", {"key": "k", "points": "0", "reason": "r"}, 422),
            ("/adjustments", {"key": "k", "points": "5"}, 422),
            ("/redemptions", {"key": "k", "reward_id": "none"}, 404),
            ("/redemptions", {"key": "k", "reward_id": "none", "forced": "1"}, 404),
            ("/redemptions", {"key": "k", "reward_id": "ten", "forced": "1", "at": "9999-12-31T23:59"}, 422),
        )
        for path, said, status in forms:
            answer = page.request.post(CUSTOMER + path, form=said, headers=own)
            assert (answer.status, "Points ledger" in answer.text()) == (status, True), (path, said)
        # As it comes about: the button of before, pressed once more with something else in it.
        page.goto(f"{CUSTOMER}?names=6f9619ff-8b86-d011-b42d-00c04fc964ff")
        say(page, "Give", "5", "a review")
        by_hand(page).get_by_role("button", name="Give or take").click()
        expect(by_hand(page).get_by_role("status").first).to_contain_text("Done: +5")
        page.goto(f"{CUSTOMER}?names=6f9619ff-8b86-d011-b42d-00c04fc964ff")
        say(page, "Give", "6", "a review")
        by_hand(page).get_by_role("button", name="Give or take").click()
        expect(by_hand(page).get_by_role("alert")).to_contain_text("This form was sent before")


def test_a_reward_is_redeemed_handed_out_and_used(world: World, page: Page, publisher: Deciding) -> None:
    page.get_by_role("button", name="Redeem ten for 10 points").click()
    page.wait_for_url("**/redemptions/desk-*")
    expect(page.get_by_role("status").last).to_contain_text("waits for its code")
    facts = page.get_by_role("region", name="How it came to this")
    expect(facts).to_contain_text("25 points could be spent, and 15 after it.")
    page.get_by_label("Code (empty").fill("THANKS-7")
    page.get_by_label("Last day").fill("2026-12-31")
    page.get_by_role("button", name="It is handed out").click()
    expect(page.get_by_role("status").last).to_contain_text("handed out")
    expect(facts.locator(".code")).to_have_text("THANKS-7")
    expect(facts).to_contain_text("Dec 31, 2026")
    expect(page.get_by_role("region", name="Hand it out")).to_have_count(0)
    order(publisher, "thanks-7")
    expect(page.get_by_role("status").last).to_contain_text("used")  # by itself
    expect(page.get_by_role("button", name="Cancel this redemption")).to_have_count(0)
    name = page.url.rpartition("/")[2].partition("?")[0]
    said: dict[str, Any] = {"reason": "late"}
    headers = {"Sec-Fetch-Site": "same-origin"}
    answer = page.request.post(f"{CUSTOMER}/redemptions/{name}/cancel", form=said, headers=headers)
    assert (answer.status, "An order has used it" in answer.text()) == (409, True)
    page.get_by_role("link", name="Customer 7").click()
    expect(account(page, "balance")).to_have_text("16")  # 25, less 10, and 1 for the order


def test_what_is_refused_says_why(world: World, page: Page) -> None:
    page.get_by_role("button", name="Redeem rare for 2 points").click()
    page.wait_for_url("**/redemptions/desk-*")
    page.goto(CUSTOMER)
    page.get_by_role("button", name="Redeem rare for 2 points").click()
    expect(page.get_by_role("status").last).to_contain_text("refused")
    expect(page.get_by_role("region", name="How it came")).to_contain_text("as often as they may for now")
    page.goto(CUSTOMER)
    ask(world, "a")
    ask(world, "b")
    button = page.get_by_role("button", name="Redeem ten for 10 points")
    expect(button).to_be_disabled()  # by itself: they have 3 now
    expect(page.get_by_role("listitem").filter(has_text="ten free shipping")).to_contain_text("7 too few")
    button.evaluate("button => { button.disabled = false; }")  # as on a page of a moment ago
    button.click()
    expect(page.get_by_role("region", name="How it came")).to_contain_text(
        "It costs 10 points, and 3 could be spent: 7 too few."
    )
    expect(page.get_by_role("button", name="Cancel this redemption")).to_have_count(0)


def test_what_is_still_being_decided_is_shown_and_then_what_was(
    world: World, page: Page, publisher: Deciding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.waiting.WAIT", 0.3)
    publisher.held = []
    page.get_by_role("button", name="Redeem ten for 10 points").click()
    page.wait_for_url("**/redemptions/desk-*")
    expect(page.get_by_role("status").last).to_contain_text("being decided")
    page.evaluate("document.body.dataset.same = 'yes'")
    publisher.decide(publisher.held)
    expect(page.get_by_role("status").last).to_contain_text("waits for its code")
    publisher.held = []
    page.get_by_role("region", name="Cancel it").get_by_label("Reason").fill("too slow")
    page.get_by_role("button", name="Cancel this redemption").click()
    expect(page.get_by_role("status").last).to_contain_text("The cancellation is on its way.")
    publisher.decide(publisher.held)
    expect(page.get_by_role("status").last).to_contain_text("returned cancelled")
    expect(page.get_by_role("region", name="Cancel it")).to_have_count(0)
    publisher.held = []
    page.goto(CUSTOMER)
    say(page, "Give", "5", "a review")
    by_hand(page).get_by_role("button", name="Give or take").click()
    expect(by_hand(page).get_by_role("status").first).to_contain_text("on its way: +5 points")
    publisher.decide(publisher.held)
    expect(by_hand(page).get_by_role("status").first).to_contain_text("Done: +5 points")
    expect(account(page, "balance")).to_have_text("30")


def test_somebody_at_a_form_is_not_disturbed(world: World, page: Page) -> None:
    form = by_hand(page)
    say(page, "Give", "5", "half a rea")
    form.locator("summary", has_text="Take back").click()
    give(world, 100)
    expect(account(page, "balance")).to_have_text("125")
    expect(form.locator("output")).to_contain_text("125 → 130")
    expect(form.get_by_label("Reason")).to_have_value("half a rea")
    expect(form.get_by_role("button", name="Yes, for ever")).to_be_visible()
    expect(form.locator("tbody tr")).to_have_count(1)
    form.locator("summary", has_text="Take back").click()
    form.get_by_label("Reason").focus()
    expect(form.locator("tbody tr")).to_have_count(2)


def test_a_redemption_is_cancelled_by_keyboard_alone(world: World, page: Page) -> None:
    ask(world, "cart-1")
    page.goto(f"{CUSTOMER}/redemptions/cart-1")
    page.get_by_role("region", name="Cancel it").get_by_label("Reason").focus()
    page.keyboard.press("Enter")  # a reason is wanted
    page.keyboard.type("other cart")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").last).to_contain_text("returned cancelled")
    assert b'"reason":"other cart"' in world.publisher.messages[-1].value
    assert read(world, "/cart-1").json()["returned_reason"] == "cancelled"


def test_what_a_till_gave_is_told_by_who_may(world: World, browser: Browser, page: Page) -> None:
    expect(page.get_by_text("Given already at a till")).to_have_count(0)
    with page_of(browser, str(world.client.base_url), locale="en-US") as other:
        sign_in(world, other, *STAFF, "till")
        other.goto(CUSTOMER)
        other.get_by_text("Given already at a till").click()
        other.get_by_role("combobox", name="Reward").select_option("ten")
        other.get_by_label("When, by the shop's clocks").fill("2199-01-01T10:00")
        other.get_by_role("button", name="Tell of it").click()
        expect(other.get_by_role("alert")).to_contain_text("This is a time to come")
        other.get_by_label("When, by the shop's clocks").fill("2026-11-20T10:00")
        other.get_by_role("button", name="Tell of it").click()
        expect(other.get_by_role("region", name="How it came")).to_contain_text("Nov 20, 2026, 10:00")
        expect(other.get_by_role("region", name="How it came")).to_contain_text("25 points could be spent, and 15")
    said: dict[str, Any] = {"key": "k", "reward_id": "ten", "forced": "1"}
    headers = {"Sec-Fetch-Site": "same-origin"}
    assert page.request.post(f"{CUSTOMER}/redemptions", form=said, headers=headers).status == 403


def test_what_cannot_be_handed_out_gives_its_points_back(world: World, page: Page) -> None:
    ask(world, "cart-1")
    page.goto(f"{CUSTOMER}/redemptions/cart-1")
    page.get_by_text("It cannot be handed out").click()
    page.get_by_role("region", name="Hand it out").get_by_label("Reason").fill("out of stock")
    page.get_by_role("button", name="Give its points back").click()
    expect(page.get_by_role("status").last).to_contain_text("no code could be had")
    page.get_by_role("button", name="It is handed out").click()  # found in a drawer after all
    expect(page.get_by_role("status").last).to_contain_text("handed out")
    assert read(world, "/cart-1").json()["attempt"] == 2


def test_where_the_store_makes_the_codes_nobody_hands_them_out(world: World, page: Page) -> None:
    ask(world, "cart-1")
    world.insert("fulfilment_shops", shop=SHOP, endpoint="https://x.example", token="sealed", enabled=True)
    tried = {"attempts": 2, "last_error": "status 502", "withdrawal": None}
    world.insert("fulfilment_work", shop=SHOP, customer_id="7", request_id="cart-1", **tried)
    page.goto(f"{CUSTOMER}/redemptions/cart-1")
    expect(page.get_by_role("region", name="How it came")).to_contain_text(
        "Tried 2 times, the last time in vain: status"
    )
    expect(page.get_by_role("region", name="Hand it out")).to_have_count(0)


def test_the_shops_redemptions_are_found(world: World, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, reward, customer in (("a", "ten", "7"), ("b", "cheap", "7"), ("c", "ten", "8")):
        ask(world, name, reward, customer)
    fulfil(world, "a", attempt=1, state="issued", code="THANKS-7", valid_until="2027-01-01T00:00:00Z")
    cancel(world, "b")
    page.get_by_role("link", name="Redemptions", exact=True).click()
    tiles = page.get_by_role("region", name="By status")
    assert [" ".join(each.split()) for each in tiles.locator(".tile").all_inner_texts()] == [
        "refused 1 10 points",
        "waits for its code 0 0 points",
        "handed out 1 10 points",
        "used 0 0 points",
        "returned 1 4 points",
    ]
    rows = page.locator("tbody tr")
    assert [row.split("\t")[:4] for row in rows.all_inner_texts()] == [
        ["8", "ten", "refused too few points", "10"],
        ["7", "c", "returned cancelled", "4"],
        ["7", "ten", "handed out", "10"],
    ]
    expect(rows.nth(2)).to_contain_text("THANKS-7")
    expect(rows.nth(2)).to_contain_text("Dec 31, 2026")
    page.get_by_role("combobox", name="Status").select_option("returned")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(rows).to_have_count(1)
    page.get_by_role("combobox", name="Reward").select_option("ten")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_text("None of these.")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    for named, many in (("7", 2), ("c", 1), ("thanks-7", 1), ("#7", 2), ("nobody", 0)):
        page.get_by_label("Customer, name or code").fill(named)
        page.get_by_role("button", name="Show", exact=True).click()
        page.wait_for_url("**/redemptions?**")
        expect(rows).to_have_count(many)
    monkeypatch.setattr(redemption_pages, "_PAGE", 1)
    page.goto(f"/shops/{SHOP}/redemptions?named=7")
    expect(rows).to_contain_text("returned")
    page.get_by_role("link", name="Next page").click()
    expect(rows).to_contain_text("handed out")
    expect(page.get_by_role("link", name="Next page")).to_have_count(0)
    rows.get_by_role("link", name="handed out: ten of 7").click()
    expect(page.get_by_role("region", name="How it came")).to_contain_text("THANKS-7")
    page.goto(f"/shops/{SHOP}/redemptions")
    ask(world, "d", "cheap")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("waits for its code")  # by itself: the newest
    expect(tiles.locator("[data-figure=reserved]")).to_have_text("1")


@pytest.mark.parametrize("scopes", [("read",), ("read", "adjust"), ("read", "redeem"), ("read", "fulfil")])
def test_who_may_not_sees_no_form_and_is_refused(world: World, browser: Browser, scopes: tuple[str, ...]) -> None:
    ask(world, "cart-1")
    with page_of(browser, str(world.client.base_url), locale="en-US") as page:
        sign_in(world, page, *scopes)
        page.goto(CUSTOMER)
        expect(page.get_by_role("button", name="Give or take")).to_have_count(int("adjust" in scopes))
        expect(page.locator("summary", has_text="Take back")).to_have_count(int("adjust" in scopes))
        expect(page.get_by_role("region", name="Redeem for the customer")).to_have_count(int("redeem" in scopes))
        page.goto(f"{CUSTOMER}/redemptions/cart-1")
        expect(page.get_by_role("button", name="Cancel this redemption")).to_have_count(int("redeem" in scopes))
        expect(page.get_by_role("button", name="It is handed out")).to_have_count(int("fulfil" in scopes))
        sent = len(world.publisher.messages)
        posts: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("adjust", "/adjustments", {"key": "k", "points": "5", "reason": "r"}),
            ("adjust", "/adjustments/gift-25/void", {}),
            ("redeem", "/redemptions", {"key": "k", "reward_id": "ten"}),
            ("redeem", "/redemptions/cart-1/cancel", {"reason": "r"}),
            ("fulfil", "/redemptions/cart-1/fulfilment", {"attempt": "1", "state": "issued"}),
        )
        for scope, path, said in posts:
            if scope not in scopes:
                own = {"Sec-Fetch-Site": "same-origin"}
                assert page.request.post(CUSTOMER + path, form=said, headers=own).status == 403, path
            for other in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
                assert page.request.post(CUSTOMER + path, form=said, headers=other).status == 403, path
        assert len(world.publisher.messages) == sent


def test_who_was_merged_is_asked_for_elsewhere(world: World, page: Page) -> None:
    ask(world, "cart-1")
    world.sql("UPDATE customers SET merged_into = '9' WHERE customer_id = '7'")
    page.goto(CUSTOMER)
    expect(page.get_by_text("all that was theirs counts there")).to_be_visible()
    expect(page.get_by_role("button", name="Give or take")).to_have_count(0)
    expect(page.get_by_role("button", name="Redeem ten for 10 points")).to_have_count(0)


@pytest.mark.parametrize("about", [{"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 740}}])
def test_in_german_everywhere(world: World, browser: Browser, about: dict[str, Any]) -> None:
    program = PROGRAM | {"rewards": [*PROGRAM["rewards"], PROGRAM["rewards"][0] | {"names": {"de": "Zehn"}}]}
    world.sql("DELETE FROM programs")
    world.program(**program)
    ask(world, "cart-1")
    ask(world, "cart-2")
    ask(world, "cart-3")
    with page_of(browser, str(world.client.base_url), locale="de-DE", **about) as page:
        sign_in_with(page, world.key(*STAFF, "till"), "API-Schlüssel", "Anmelden")
        tails = (f"/customers/7/redemptions/cart-{number}" for number in (1, 3))
        for tail in ("/redemptions", "/customers/7", *tails):
            page.goto(f"/shops/{SHOP}{tail}")
            expect(page.locator("[aria-busy=true]")).to_have_count(0)
            for details in page.locator("details").all():
                details.evaluate("each => { each.open = true; }")
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tail
        expect(page.get_by_text("Es kostet 10 Punkte, und 5 waren verfügbar: 5 zu wenig.")).to_be_visible()
        page.goto(f"/shops/{SHOP}/redemptions")
        expect(page.get_by_role("heading", name="Einlösungen")).to_be_visible()
