"""The dashboard in a real browser: who may come in, and that every figure is the API's."""

import html
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import jwt
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from books import sessions
from events import topics
from tests.browsers import page_of
from tests.integration.api_world import NOW, OTHER, SECRETS, SHOP, World, customer_row, opened, prospect
from tests.integration.test_api_live import listening, until
from tests.receivers import receiving

pytestmark = [pytest.mark.slow]

PAGES = (
    "",
    "/segments/Champions",
    "/movement?current=Champions",
    "/customers/1",
    "/redemptions",
    "/customers/1/redemptions/ten-off",
    "/products",
    "/exports",
    "/program",
    "/notices",
    "/system",
    "/start",
)

#: What shows all that there is on them.
SCOPES = ("read", "export", "adjust", "redeem", "till", "fulfil", "admin")

REWARD = {"reward_id": "ten-off", "cost": 500, "kind": "amount", "value": "10", "name": "10 off", "valid_days": 90}

#: Entries of customer 1, the newest first: what they can spend, 300 that they cannot yet, and 50 that have run out.
LEDGER = (
    ("redeem", "summer-5", "returned", 500),
    ("redeem", "summer-5", "redeemed", -500),
    ("redeem", "ten-off", "redeemed", -500),
    ("deduction", "given-twice", "adjusted", -150),
    ("deduction", "by-mistake", "adjusted", 30),
    ("deduction", "by-mistake", "adjusted", -30),
    ("award", "birthday", "adjusted", 500),
    ("order", "4711", "reversed", -100),
    ("order", "4711", "earned", 3100),
)


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program(rewards=[REWARD])
        running.customer("1", segment="Champions", segment_id="seg_555", r=5, f=5, m=5, monetary=250_000, balance=2500)
        running.customer("2")
        running.customer("3", **prospect())
        yield running


@pytest.fixture
def page(world: World, browser: Browser) -> Iterator[Page]:
    with page_of(browser, str(world.client.base_url)) as opened_page:
        yield opened_page


@pytest.fixture
def history(world: World) -> World:
    """Something on every page: windows, a ledger, changes, batches of three days, products, a dead letter, a notice."""
    numbers = {"orders": 4, "net": 26_300, "points_earned": 263, "points_reversed": 13, "customers": 2}
    day = datetime.now(UTC).replace(hour=5, minute=0, second=0, microsecond=0)
    for ago in range(3):
        place = {"shop": SHOP, "size": "day", "zone": "America/New_York", "partition": 0, "currency": "USD"}
        start = day - timedelta(days=ago)
        world.insert("points_windows", start=start, **place, **numbers, guest_orders=0, guest_net=0)
        run = world.batch(start, {"1": "Loyal" if ago else "Champions", "2": "Active"}, published=True)
        sizes = {"segment": "Champions", "customers": 2, "monetary": 100, "balance": 3}
        world.insert("segment_sizes", shop=SHOP, as_of=start, run_id=run, **sizes)
    for number, (source, name, kind, points) in enumerate(LEDGER):
        about = {"shop": SHOP, "customer_id": "1", "revision": "1", "processed_at": NOW, "via": ""}
        entry = {"posted_at": NOW - number * timedelta(hours=1), "id": uuid4(), "kind": kind, "points": points}
        world.insert("points_transactions", source=source, source_id=name, **entry, **about)
    days = {"shop": SHOP, "customer_id": "1", "zone": "America/New_York", "fence": 0}
    ran_out = NOW - timedelta(days=3)
    world.insert("points_expired", day=ran_out.date(), at=ran_out, points=50, **days)
    world.sql(
        "UPDATE customers SET pending = 300, earned = 3000, spent = 650, expired = 50, expiring = 40,"
        " expires_at = '2026-12-15T05:00:00Z' WHERE customer_id = '1'"
    )
    about = {"shop": SHOP, "customer_id": "1", "request_id": "ten-off", "reward_id": "ten-off", "cost": 500}
    decided = {"decided_at": NOW, "requested_at": NOW, "seq": 1, "accepted": True, "balance": 3000, "forced": False}
    world.insert("redemptions", **about, **decided, status="reserved", points=-500, revision="1")
    gift = {"award_id": "birthday", "at": NOW, "points": 500, "reason": "birthday", "source": "dashboard"}
    world.insert("awards", shop=SHOP, customer_id="1", **gift, counts_as_earned=True)
    change = {"recency_days": 3, "frequency": 9, "monetary": 250_000, "r": 5, "f": 5, "m": 5, "score": "5.0"}
    about = {"segment_id": "seg_555", "segment": "Champions", "cut_points_version": "default", "cause": "order 4711"}
    world.insert("rfm_score_history", at=NOW, id=uuid4(), shop=SHOP, customer_id="1", **change, **about)
    sold = dict.fromkeys(("recency_days", "frequency", "pieces", "monetary", "buyers", "repeat_buyers"), 7)
    product = {"shop": SHOP, "item": "82", "variant": "", "product_id": "82", "sku": "NEST-1", "currency": "USD"}
    times = {"as_of": NOW, "last_order_at": NOW, "first_orders": 3, "came_back": 2, "segments": "{}"}
    world.insert("product_rfm", **product, **times, **sold)
    letter = {"source": "webhook", "key": None, "error": "other_currency", "detail": "EUR is not USD", "value": None}
    world.insert("dead_letters", at=NOW, id=uuid4(), shop=SHOP, **letter)
    path, admin = f"/v1/shops/{SHOP}/webhooks", world.key("admin")
    told = {"url": f"https://example.com/{'a-long-way/' * 8}", "events": ["segment.changed", "batch.done"]}
    endpoint = world.client.post(path, headers=admin, json=told).json()["id"]
    assert world.client.post(f"{path}/{endpoint}/test", headers=admin).status_code == 202
    return world


def sign_in(world: World, page: Page, *scopes: str) -> None:
    sign_in_with(page, world.key(*(scopes or ("read", "export"))), "API key", "Sign in")


def sign_in_with(page: Page, headers: dict[str, str], label: str, button: str) -> None:
    page.goto("/")
    page.get_by_label(label).fill(headers["Authorization"].removeprefix("Bearer "))
    page.get_by_role("button", name=button).click()
    page.wait_for_url(f"**/shops/{SHOP}")


def parts_are_there(page: Page) -> None:
    """What a page asks for once it stands has come."""
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    if page.locator("[data-charts]").count():
        page.locator("[data-charts]").scroll_into_view_if_needed()
        expect(page.locator(".js-plotly-plot").first).to_be_visible()


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
    listening(world)
    until(lambda: SHOP in world.services.live._shops)
    world.customer("4", segment="Champions")
    world.sql("SELECT pg_notify('loyalnest_live', json_build_object('shop', %s::text)::text)", SHOP)
    expect(page.locator("[data-live=customers]")).to_have_text("4")


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


def test_a_session_of_a_key_that_is_gone_opens_nothing(world: World, page: Page) -> None:
    sign_in(world, page)
    world.sql("DELETE FROM api_keys")
    assert page.request.get(f"/v1/shops/{SHOP}/segments").status == 401


def test_what_is_over_is_removed_when_somebody_signs_in(world: World, page: Page) -> None:
    sign_in(world, page)
    world.sql("UPDATE dashboard_sessions SET expires_at = %s", datetime.now(UTC) - timedelta(seconds=1))
    sign_in(world, page)
    assert len(world.sql("SELECT id FROM dashboard_sessions")) == 1


def test_an_idle_session_ends(world: World, page: Page) -> None:
    sign_in(world, page)
    world.sql("UPDATE dashboard_sessions SET seen_at = %s", datetime.now(UTC) - sessions.IDLE - timedelta(seconds=1))
    assert page.request.get(f"/v1/shops/{SHOP}/segments").status == 401


def test_the_pages(world: World, page: Page) -> None:
    sign_in(world, page)
    page.locator(".cell", has_text="Champions").click()
    expect(page.get_by_role("heading", name="Champions")).to_be_visible()
    page.get_by_role("group", name="Table").get_by_role("link", name="1", exact=True).click()
    expect(page.get_by_role("heading", name="Customer 1")).to_be_visible()
    page.get_by_role("link", name="Products").click()
    expect(page.get_by_role("heading", name="Products")).to_be_visible()
    page.get_by_role("link", name="System").click()
    expect(page.get_by_text("No batch has run yet.")).to_be_visible()


def test_a_customers_points_and_where_they_came_from(history: World, browser: Browser) -> None:
    with page_of(browser, str(history.client.base_url)) as page:
        sign_in(history, page)
        page.goto(f"/shops/{SHOP}/customers/1")
        account = page.get_by_role("region", name="Points", exact=True)
        assert account.locator("dl > div").all_inner_texts() == [
            "Can be spent\n2,500",
            "Pending\n300\ncannot be spent yet",
            "Run out next\n40\nlast day: Dec 14, 2026",
            "Ever earned\n3,000",
            "Spent\n650\nredeemed or deducted",
            "Run out\n50",
        ]
        expect(page.locator(".tile").first).to_contain_text("40 run out after Dec 14, 2026")
        ledger = page.get_by_role("region", name="Points ledger")
        cells = [row.split("\t")[1:] for row in ledger.locator("tbody tr").all_inner_texts()]
        assert cells == [
            ["returned", "Redemption summer-5", "+500"],
            ["redeemed", "Redemption summer-5", "−500"],
            ["redeemed", "Redemption ten-off", "−500"],
            ["deducted by hand", "Deduction given-twice", "−150"],
            ["given back", "Deduction by-mistake", "+30"],
            ["deducted by hand", "Deduction by-mistake", "−30"],
            ["given by hand", "Award birthday", "+500"],
            ["reversed", "Order 4711", "−100"],
            ["earned", "Order 4711", "+3,100"],
            ["ran out", "", "−50"],
        ]
        sums = [row.split("\t") for row in ledger.locator("tfoot tr").all_inner_texts()]
        assert [(row[0], row[-1]) for row in sums] == [
            ("All together", "2,800"),
            ("of these pending", "−300"),
            ("Balance", "2,500"),
        ]
        history.sql("UPDATE customers SET balance = -120, expiring = 0, expires_at = NULL WHERE customer_id = '1'")
        page.reload()
        expect(account).to_contain_text("Owed")
        expect(account.locator("dl > div").first).to_contain_text("120")
        expect(page.locator(".tile").first).to_contain_text("owed")


def look(page: Page) -> None:
    """axe, as a screen reader's user would want it: nothing serious."""
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    wrong = [each for each in found.response["violations"] if each["impact"] in ("serious", "critical")]
    assert not wrong, [(each["id"], [node["html"][:120] for node in each["nodes"][:3]]) for each in wrong]


def test_only_who_comes_to_the_charts_loads_their_library(history: World, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    sign_in(history, page)
    expect(page.locator("[data-chart=orders]")).to_have_count(1)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    assert not [url for url in asked if "plotly" in url]
    parts_are_there(page)
    assert len([url for url in asked if "plotly" in url]) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(history: World, browser: Browser, scheme: str) -> None:
    with page_of(browser, str(history.client.base_url), color_scheme=scheme) as page:
        page.goto("/sign-in")
        look(page)
        sign_in(history, page, *SCOPES)
        for tail in PAGES:
            page.goto(f"/shops/{SHOP}{tail}")
            parts_are_there(page)
            look(page)


#: Whatever reaches beyond the window, if the page can be scrolled sideways.
BEYOND = """
document.documentElement.scrollWidth <= innerWidth ? [] : ["too wide", ...[...document.querySelectorAll("body *")]
  .filter((each) => each.getBoundingClientRect().right > innerWidth)
  .map((each) => each.outerHTML.slice(0, 120))]
"""


def test_a_phone_shows_it_without_scrolling_sideways(history: World, browser: Browser) -> None:
    with page_of(browser, str(history.client.base_url), viewport={"width": 360, "height": 740}) as page:
        sign_in(history, page, *SCOPES)
        for tail in PAGES:
            page.goto(f"/shops/{SHOP}{tail}")
            parts_are_there(page)
            assert page.evaluate(BEYOND) == [], tail


def test_by_keyboard_alone(world: World, page: Page) -> None:
    key = world.key("read")["Authorization"].removeprefix("Bearer ")
    page.goto("/")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/shops/{SHOP}")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link that skips what each page begins with
    page.wait_for_url("**#main")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className").startswith("cell"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/segments/*")


def test_german(history: World, browser: Browser) -> None:
    with page_of(browser, str(history.client.base_url), locale="de-DE") as page:
        page.goto("/sign-in")
        expect(page.get_by_role("button", name="Anmelden")).to_be_visible()
        sign_in_with(page, history.key("read"), "API-Schlüssel", "Anmelden")
        expect(page.get_by_role("heading", name="Kundinnen und Kunden").first).to_be_visible()
        expect(page.locator("[data-live=revenue]")).to_have_text("2.630 $")
        assert page.locator("html").get_attribute("lang") == "de-DE"


def test_what_went_wrong_is_told_in_german(history: World, browser: Browser) -> None:
    with page_of(browser, str(history.client.base_url), locale="de-DE") as page:
        sign_in_with(page, history.key("read", "admin"), "API-Schlüssel", "Anmelden")
        history.sql("DELETE FROM batch_runs")
        for path, told in (
            ("/customers/4711", "Im Shop ist niemand mit dieser Angabe"),
            ("/segments/Nobody", "Ein solches Segment hat der Shop nicht."),
            ("/segments/Champions?cursor=x", "Die Liste ist inzwischen eine andere"),
            ("/segments/Champions?sort=luck", "Eine Angabe kann so nicht sein (query.sort: Input should be"),
            ("/nowhere", "Hier ist nichts, oder nichts mehr."),
            ("/parts/movement", "Bis dahin ist noch kein Lauf gewesen"),
        ):
            page.goto(f"/shops/{SHOP}{path}")
            expect(page.locator("body")).to_contain_text(told)
        # By a module, from the API's own answer, which stays as it is.
        page.goto(f"/shops/{SHOP}/notices")
        page.get_by_label("Adresse").fill("ftp://example.com")
        with page.expect_response("**/webhooks") as answer:
            page.get_by_role("button", name="Hinzufügen").click()
        told = answer.value.json()["detail"]
        assert told.startswith("That is no address to send to")
        expect(page.get_by_role("alert")).to_have_text(f"Dorthin kann nichts geschickt werden ({told})")
        page.goto(f"/shops/{SHOP}/system")
        history.sql("UPDATE dead_letters SET shop = %s", OTHER)
        page.get_by_role("button", name="Noch einmal senden").click()
        expect(page.get_by_role("row", name="webhook")).to_contain_text("Hier ist nichts, oder nichts mehr.")


def test_figures_are_written_as_the_shop_does_whoever_reads_them(database: str, browser: Browser) -> None:
    with opened(database) as world:
        world.program(locale="de-CH", currency="CHF", rules=[{"points_per_unit": "1.5"}])
        world.customer("1", segment="Champions", monetary=123_456_789, currency="CHF", balance=1_234_567)
        with page_of(browser, str(world.client.base_url), locale="en-US") as page:
            sign_in_with(page, world.key("read"), "API key", "Sign in")
            expect(page.get_by_role("heading", name="Kundinnen und Kunden").first).to_be_visible()
            page.get_by_role("link", name="English").click()
            points, revenue = page.locator("[data-live=points]"), page.locator("[data-live=revenue]")
            expect(points).to_have_text("1'234'567")
            expect(revenue).to_have_text("CHF 1'234'568")
            expect(page.get_by_text("Points outstanding")).to_be_visible()
            # A module writes it as the server does.
            listening(world)
            until(lambda: SHOP in world.services.live._shops)
            world.customer("2", segment="Champions", monetary=100, currency="CHF", balance=1_000_000)
            world.sql("SELECT pg_notify('loyalnest_live', json_build_object('shop', %s::text)::text)", SHOP)
            expect(points).to_have_text("2'234'567")
            expect(revenue).to_have_text("CHF 1'234'569")
            page.goto(f"/shops/{SHOP}/customers/1")
            expect(page.get_by_role("row", name="Value").get_by_role("cell").first).to_have_text("CHF 1'234'567.89")
            page.goto(f"/shops/{SHOP}/program")
            expect(page.get_by_role("cell", name="1.5", exact=True)).to_be_visible()


def test_a_lost_connection_is_shown_and_recovers(world: World, page: Page) -> None:
    sign_in(world, page)
    expect(page.locator("[data-lost]")).to_be_hidden()
    page.context.set_offline(True)
    world.services.live.close()  # ends every stream, as the end of the server does
    expect(page.locator("[data-lost]")).to_be_visible()
    world.customer("4", segment="Champions")
    world.services.live._closed = False
    page.context.set_offline(False)
    expect(page.locator("[data-live=customers]")).to_have_text("4")
    expect(page.locator("[data-lost]")).to_be_hidden()


def test_the_apis_docs_work_under_their_policy(world: World, page: Page) -> None:
    answer = page.goto("/docs")
    assert answer is not None
    assert "unsafe" not in answer.headers["content-security-policy"]
    expect(page.get_by_text("Sizes, share, revenue and mean values of the segments")).to_be_visible()


def test_behind_tls_browsers_are_told_to_stay_there(world: World) -> None:
    secure = world.client.get("/sign-in", headers={"X-Forwarded-Proto": "https"})
    plain = world.client.get("/sign-in")
    assert secure.headers["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in plain.headers
    for answer in (secure, plain):
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"


def test_somebody_else_is_signed_out(world: World, page: Page) -> None:
    sign_in(world, page, "read", "admin")
    world.client.post("/sign-in", data={"link": link(world)}, headers={"Sec-Fetch-Site": "same-origin"})
    assert world.get("/segments", {}).status_code == 200  # by the client's cookie
    page.goto(f"/shops/{SHOP}/system")
    page.get_by_role("row", name="a link read").get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("row", name="a link read")).to_have_count(0)
    assert world.get("/segments", {}).status_code == 401


def test_a_customer_is_found_by_id_and_by_address(world: World, page: Page) -> None:
    address = world.run(world.services.vault.address(SHOP, "ada@example.com"))
    world.customer(address, merged_into="1", **prospect())
    sign_in(world, page)
    for wanted in ("1", "'1", " Ada@Example.com "):
        page.get_by_role("searchbox").fill(wanted)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Customer 1")).to_be_visible()
        assert page.url.endswith("/customers/1")
    page.get_by_role("searchbox").fill("eve@example.com")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    assert "eve" not in page.url


def test_an_export_of_a_page_is_the_apis_to_the_byte(world: World, page: Page) -> None:
    for number in range(10, 3000):
        world.insert("customers", **customer_row(str(number), segment="Loyal"))
    world.count()
    sign_in(world, page)
    page.get_by_role("link", name="Exports").click()
    page.get_by_label("Loyal", exact=True).check()
    page.get_by_label("Points from").fill("100")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    asked = {"segment": "Loyal", "points_from": "100"}
    should = world.get("/exports/segments.csv", world.key("export"), **asked)
    assert should.text.count("\n") == 2991
    assert download.value.path().read_bytes() == should.content
    page.get_by_role("button", name="Make it aside").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Fetch the file").click()
    assert download.value.path().read_bytes() == should.content
    assert page.get_by_label("Klaviyo").is_disabled()
    page.get_by_label("Points to").fill("50")
    page.get_by_role("button", name="Download").click()
    expect(page.get_by_role("alert")).to_contain_text("nobody has so many")


def test_a_program_is_previewed_and_announced(history: World, page: Page) -> None:
    sign_in(history, page, "read", "admin")
    page.goto(f"/shops/{SHOP}/program")
    page.get_by_label("Look-back in days").fill("90")
    page.get_by_role("button", name="See what would change").click()
    expect(page.get_by_role("heading", name="What would change")).to_be_visible()
    page.get_by_role("button", name="Announce").click()
    expect(page.get_by_text("Announced.")).to_be_visible()
    (message,) = history.publisher.messages
    assert json.loads(message.value)["look_back_days"] == 90
    # Somebody else's change meanwhile is not overwritten.
    expect(page.get_by_label("Look-back in days")).to_have_value("90")
    current = history.client.get(f"/v1/shops/{SHOP}/program", headers=history.key("read"))
    etag = {"If-Match": current.headers["ETag"]}
    changed = current.json() | {"look_back_days": 30}
    history.client.put(f"/v1/shops/{SHOP}/program", headers=history.key("admin") | etag, json=changed)
    page.get_by_role("button", name="Announce").click()
    expect(page.get_by_role("alert")).to_contain_text("The program was changed meanwhile")


def test_a_dead_letter_is_sent_again(world: World, page: Page) -> None:
    letter = {
        "source": topics.ACCOUNT_FACTS,
        "key": f"{SHOP}/7",
        "error": "unexpected",
        "detail": "once",
        "value": "{}",
    }
    world.insert("dead_letters", at=NOW, id=uuid4(), shop=SHOP, **letter)
    sign_in(world, page, "read", "admin")
    page.get_by_role("link", name="System").click()
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_text("sent again", exact=True)).to_be_visible()
    assert [each.topic for each in world.publisher.messages] == [topics.ACCOUNT_FACTS]


def test_a_system_is_told_and_tried(database: str, browser: Browser) -> None:
    with receiving() as receiver, opened(database, notices_private=True) as world:
        world.program()
        with page_of(browser, str(world.client.base_url)) as page:
            sign_in(world, page, "read", "admin")
            page.get_by_role("link", name="Notices").click()
            page.get_by_label("Address").fill("ftp://example.com")
            page.get_by_role("button", name="Add").click()
            expect(page.get_by_role("alert")).to_be_visible()
            page.get_by_label("Address").fill(receiver.url())
            page.get_by_role("button", name="Add").click()
            expect(page.get_by_role("status").get_by_text("whsec_")).to_be_visible()
            page.reload()
            page.get_by_role("button", name="Send a test").click()
            expect(page.get_by_role("cell", name="waiting").first).to_be_visible()
            page.once("dialog", lambda dialog: dialog.accept())
            page.get_by_role("button", name="Remove").click()
            expect(page.get_by_text("Nobody is told yet.")).to_be_visible()


def test_whose_customers_were_merged_and_who_moved(history: World, page: Page) -> None:
    history.customer("77", merged_into="1", **prospect())
    sign_in(history, page)
    page.goto(f"/shops/{SHOP}/customers/1")
    page.get_by_text("Merged from").get_by_role("link", name="77").click()
    expect(page.get_by_text("Merged into")).to_contain_text("all that was theirs counts there")
    page.get_by_text("Merged into").get_by_role("link", name="1", exact=True).click()
    page.wait_for_url("**/customers/1")
    page.goto(f"/shops/{SHOP}/parts/movement")
    page.locator(".matrix td.went").get_by_role("link", name="1", exact=True).first.click()
    expect(page.get_by_role("row")).to_have_count(2)
    page.get_by_role("main").get_by_role("row").get_by_role("link").click()
    page.wait_for_url("**/customers/*")


#: Shopify's admin, as its merchants open it; a shop's own address of it; and whoever else may try.
ADMIN = "https://admin.shopify.com"


def session_token() -> str:
    """As App Bridge has it of Shopify, for the shop's admin."""
    now = int(datetime.now(UTC).timestamp())
    about = {"iss": f"https://{SHOP}/admin", "dest": f"https://{SHOP}", "aud": "app", "sub": "42"}
    return jwt.encode({**about, "nbf": now, "iat": now, "exp": now + 60}, SECRETS[0], "HS256")


@pytest.mark.parametrize(
    ("origin", "shown"),
    [
        (ADMIN, True),
        (f"https://{SHOP}", True),
        (f"https://{OTHER}", False),
        ("https://evil.example", False),
        ("https://admin.shopify.com.evil.example", False),
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_shopifys_admin_shows_its_shop_in_a_frame_and_nobody_else_does(
    database: str, browser: Browser, origin: str, shown: bool
) -> None:
    with opened(database, shopify_client_id="app") as world:
        world.program()
        world.customer("1", segment="Champions")
        base = str(world.client.base_url)
        app = f"{base}/?embedded=1&id_token={session_token()}&shop={SHOP}"
        body = f'<!doctype html><iframe name="app" src="{html.escape(app)}" width="1000" height="800"></iframe>'
        context = browser.new_context()
        page = context.new_page()
        refused: list[str | None] = []
        page.on("requestfailed", lambda request: refused.append(request.failure))
        page.route(f"{origin}/**", lambda route: route.fulfill(content_type="text/html", body=body))
        page.goto(f"{origin}/store/nest/apps/loyalnest")
        frame = page.frame_locator("iframe")
        if shown:
            expect(frame.locator("[data-live=customers]")).to_have_text("1")
            # What its modules ask for has the session too, a third party's as it is here.
            listening(world)
            world.customer("2", segment="Champions")
            until(lambda: SHOP in world.services.live._shops)
            world.sql("SELECT pg_notify('loyalnest_live', json_build_object('shop', %s::text)::text)", SHOP)
            expect(frame.locator("[data-live=customers]")).to_have_text("2")
            frame.get_by_role("link", name="Program").click()
            expect(frame.get_by_role("heading", name="Program")).to_be_visible()
            # And who is signed in there may give points.
            frame.get_by_role("searchbox").fill("1")
            frame.get_by_role("searchbox").press("Enter")
            expect(frame.get_by_role("heading", name="Customer 1")).to_be_visible()  # the program too asks for points
            frame.get_by_role("spinbutton", name="Points").fill("5")
            frame.get_by_label("Reason").fill("a review")
            frame.get_by_role("button", name="Give or take").click()
            expect(frame.locator("[data-renewed=adjusted]")).to_contain_text("on its way: +5 points")
            assert [each.topic for each in world.publisher.messages] == [topics.REQUESTS]
        else:
            until(lambda: page.title() == "" and bool(refused))  # events are heard while something is asked
            assert refused == ["net::ERR_BLOCKED_BY_RESPONSE"], "by frame-ancestors"
        context.close()


def test_a_page_that_is_not_embedded_is_framed_by_nobody(world: World, page: Page) -> None:
    sign_in(world, page)
    for path in (f"/shops/{SHOP}", "/sign-in", "/docs"):
        policy = page.request.get(path).headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy, path
