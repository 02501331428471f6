"""What the overview draws and what an export's form asks: by the shop's clocks, wherever it is read; and
that what stands together on a page adds up while it moves."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from events import instants
from events.programs import local_midnight
from tests.browsers import page_of
from tests.e2e.test_dashboard import BEYOND, parts_are_there, sign_in, sign_in_with
from tests.integration.api_world import NOW, SHOP, World, customer_row
from tests.integration.test_api_live import listening, until

pytestmark = [pytest.mark.slow]

HALF = {"net": 100, "points_earned": 1, "points_reversed": 0, "customers": 1, "guest_net": 0}


def window(world: World, start: datetime, size: str, zone: str = "UTC", **numbers: int) -> None:
    place = {"shop": SHOP, "size": size, "zone": zone, "partition": 0, "currency": "USD", "start": start}
    world.insert("points_windows", **{**place, **HALF, "orders": 1, "guest_orders": 0, **numbers})


def drawn(page: Page, chart: str, what: str) -> list[Any]:
    expect(page.locator(f"[data-chart={chart}] .bars").first).to_be_visible()
    found = page.evaluate(f"[...document.querySelector('[data-chart={chart}]').data[0].{what}]")
    assert isinstance(found, list)
    return found


def test_hours_and_minutes_are_drawn_by_the_shops_clocks(world: World, browser: Browser) -> None:
    zone = "Asia/Kathmandu"  # a quarter of an hour off
    world.program(zone=zone)
    world.customer("1")
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    hour, minute = now.replace(minute=0) - timedelta(hours=3), now - timedelta(minutes=7)
    window(world, hour, "hour")
    window(world, minute, "minute")
    today = now.astimezone(ZoneInfo(zone)).date() - timedelta(days=1)
    window(world, instants.to_datetime(local_midnight(today, ZoneInfo(zone))), "day", zone)
    about = {"locale": "en-US", "timezone_id": "America/Los_Angeles"}
    with page_of(browser, str(world.client.base_url), **about) as page:
        sign_in(world, page)
        parts_are_there(page)
        assert drawn(page, "orders", "x") == [today.isoformat()]
        for name, start in (("Hour", hour), ("Minute", minute)):
            page.get_by_role("button", name=name).click()
            local = start.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%dT%H:%M")
            page.wait_for_function(
                "want => document.querySelector('[data-chart=orders]').data[0].x[0] === want", arg=local
            )


def test_an_hour_that_comes_twice_is_one(world: World, browser: Browser) -> None:
    world.program()
    world.customer("1")
    told = {"points_awarded": 0, "points_redeemed": 0, "customers": 1, "points_earned": 2, "points_reversed": 1}
    amounts = {"net": {"amount": "1.50", "currency": "USD"}, "guest_net": {"amount": "0.25", "currency": "USD"}}
    items = [
        {
            "start": f"2026-11-01T{at:02d}:00:00Z",
            "end": "",
            "label": "",
            "orders": at,
            "guest_orders": 1,
            **told,
            **amounts,
        }
        for at in (4, 5, 6, 7)  # 0, 1, 1 and 2 in New York
    ]
    with page_of(browser, str(world.client.base_url), locale="en-US") as page:
        page.route("**/points/windows?*", lambda route: route.fulfill(json={"items": items}))
        sign_in(world, page)
        parts_are_there(page)
        page.get_by_role("button", name="Hour").click()
        page.wait_for_function("() => document.querySelector('[data-chart=orders]').data[0].x.length === 3")
        assert drawn(page, "orders", "x") == [f"2026-11-01T0{hour}:00" for hour in (0, 1, 2)]
        assert drawn(page, "orders", "y") == [5, 13, 8]
        assert drawn(page, "net", "y") == [1.75, 3.5, 1.75]
        assert drawn(page, "points", "y") == [2, 4, 2]


#: Days on which clocks change at midnight (Santiago has none, Havana two), and what surrounds them.
DAYS = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25", "2026-11-20"),
    "America/New_York": ("2026-03-08", "2026-11-01", "2026-11-02"),
    "America/Santiago": ("2026-09-05", "2026-09-06", "2026-09-07"),
    "America/Havana": ("2025-11-01", "2025-11-02", "2025-11-03"),
    "Pacific/Kiritimati": ("1995-01-02", "2026-01-01"),
    "Pacific/Apia": ("2011-12-29", "2011-12-31"),
    "Asia/Kathmandu": ("1986-01-01", "2026-02-28"),
}


@pytest.mark.parametrize("zone", DAYS)
def test_a_day_of_an_exports_form_is_the_shops(world: World, browser: Browser, zone: str) -> None:
    world.program(zone=zone)
    about = {"locale": "en-US", "timezone_id": "America/Los_Angeles"}
    with page_of(browser, str(world.client.base_url), **about) as page:
        sign_in_with(page, world.key("read", "export"), "API key", "Sign in")
        page.goto(f"/shops/{SHOP}/exports")
        for day in DAYS[zone]:
            for label in ("Last order after", "Last order before", "Segment changed since", "As of a past day"):
                page.get_by_label(label).fill(day)
            page.get_by_label("Points run out before").fill(day)
            asked = parse_qs(urlsplit(page.locator("[data-address]").get_attribute("href") or "").query)
            begins = instants.to_datetime(local_midnight(date.fromisoformat(day), ZoneInfo(zone)))
            expires = datetime.fromisoformat(asked.pop("points_expire_before")[0])
            assert {name: datetime.fromisoformat(each) for name, (each,) in asked.items()} == dict.fromkeys(
                ("last_order_after", "last_order_before", "changed_since", "as_of"), begins
            )
            assert timedelta() < expires - begins < timedelta(seconds=1)


def test_who_is_exported_are_those_whose_last_day_it_is_before(world: World, browser: Browser) -> None:
    world.program()  # in New York, where midnight is later than in UTC
    midnight = datetime(2026, 12, 15, 5, tzinfo=UTC)
    for number, at in enumerate((midnight, midnight + timedelta(days=1)), 1):
        world.customer(str(number), segment="Loyal", expires_at=at, expiring=5)
    with page_of(browser, str(world.client.base_url), locale="en-US") as page:
        sign_in(world, page)
        page.goto(f"/shops/{SHOP}/customers/1")
        expect(page.locator(".tile").first).to_contain_text("run out after Dec 14, 2026")
        page.goto(f"/shops/{SHOP}/exports")
        page.get_by_label("Points run out before").fill("2026-12-15")
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        assert [line.split(",")[0] for line in download.value.path().read_text().splitlines()[1:]] == ["1"]


def test_a_download_is_one_export(world: World, browser: Browser) -> None:
    world.program()
    world.customer("1")
    with page_of(browser, str(world.client.base_url), locale="en-US") as page:
        sign_in(world, page)
        page.goto(f"/shops/{SHOP}/exports")
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        assert download.value.path().read_bytes()
        page.get_by_label("Points from").fill("9")
        page.get_by_label("Points to").fill("5")
        page.get_by_role("button", name="Download").click()
        expect(page.get_by_role("alert")).to_contain_text("nobody has so many")
    listed = world.get("/exports", world.key("admin")).json()["exports"]
    assert [(each["status"], each["rows"]) for each in listed] == [("done", 1)]


def shown(page: Page) -> dict[str, list[str]]:
    """Of each tile of the map: people, share, revenue."""
    cells = page.locator(".map-and-key .cell")
    return {
        each.locator("strong").inner_text(): [
            each.locator(part).inner_text() for part in (".people", ".share", ".money")
        ]
        for each in cells.all()
    }


def told(table: Locator) -> list[list[str]]:
    """Its rows' cells, be it open or not."""
    return [row.split() for row in table.locator("tr").all_text_contents()]


@pytest.mark.parametrize(
    ("locale", "currency"), [("en-US", "USD"), ("de-DE", "EUR"), ("ja-JP", "JPY"), ("de-CH", "KWD")]
)
def test_what_moves_by_itself_is_what_a_new_page_shows(
    world: World, browser: Browser, locale: str, currency: str
) -> None:
    world.program(locale=locale, currency=currency)
    world.insert("customers", **customer_row("1", segment="Champions", monetary=250, currency=currency))
    for number in range(2, 17):
        world.insert("customers", **customer_row(str(number), segment="Loyal", monetary=150, currency=currency))
    world.insert("customers", **customer_row("17", segment="New", currency=currency))
    world.count()
    with page_of(browser, str(world.client.base_url), locale="en-US") as page:
        sign_in_with(page, world.key("read"), "API key", "Sign in") if locale[:2] != "de" else sign_in_with(
            page, world.key("read"), "API-Schlüssel" if page.locator("html[lang^=de]").count() else "API key", "Sign in"
        )
        page.locator("[data-table] summary").click()
        table = page.locator("[data-part=segments]")
        expect(table.locator("tbody tr")).to_have_count(3)
        listening(world)
        until(lambda: SHOP in world.services.live._shops)
        # The newest one moves on: of 16 there is one in Champions (6.25 %), none is new, somebody is at risk.
        world.sql("DELETE FROM customers WHERE customer_id = '17'")
        world.sql("UPDATE customers SET segment = 'At risk' WHERE customer_id = '2'")
        world.count()
        world.sql("SELECT pg_notify('loyalnest_live', json_build_object('shop', %s::text)::text)", SHOP)
        expect(page.locator("[data-live=customers]")).to_have_text("16")
        expect(table.locator("tbody tr").nth(2)).to_contain_text("1")
        expect(table.locator("tfoot td").first).to_have_text("16")
        moved, rows = shown(page), told(table)
        page.reload()
        assert shown(page) == moved
        assert told(table) == rows


def test_charts_and_previews_say_what_the_page_says(world: World, browser: Browser) -> None:
    grid = [["Top / 100 %"] * 5, *[["Rest"] * 5] * 4]
    world.program(locale="de-DE", grid=grid, translations={"de": {"Top / 100 %": "Spitze", "Rest": "Übrige"}})
    world.customer("1", segment="Top / 100 %")
    for month in (3, 5):
        run = world.batch(NOW.replace(month=month), {"1": "Top / 100 %"}, published=True)
        sizes = {"customers": 2, "monetary": 100, "balance": 3}
        at = datetime.now(UTC) - timedelta(days=month)
        for segment in ("Top / 100 %", "Rest"):
            world.insert("segment_sizes", shop=SHOP, as_of=at, noted_at=at, run_id=run, segment=segment, **sizes)
    window(world, datetime.now(UTC) - timedelta(days=1), "day", "America/New_York")
    with page_of(browser, str(world.client.base_url), locale="de-DE") as page:
        sign_in_with(page, world.key("read", "admin"), "API-Schlüssel", "Anmelden")
        parts_are_there(page)
        legend = page.locator("[data-chart=sizes] .legendtext")
        expect(legend.first).to_be_visible()
        assert set(legend.all_text_contents()) == {"Spitze", "Übrige"}
        day = (datetime.now(UTC) - timedelta(days=3)).day
        ticks = page.locator("[data-chart=sizes] .xtick text").all_text_contents()
        assert f"{day}." in " ".join(ticks), ticks
        # A name is no path, whatever stands in it.
        page.locator(".map .cell", has_text="Spitze").first.click()
        expect(page.get_by_role("heading", name="Spitze")).to_be_visible()
        page.goto(f"/shops/{SHOP}/program")
        nothing = {"amount": "0.00", "currency": "USD"}
        row = dict.fromkeys(("revenue", "revenue_then"), nothing) | dict.fromkeys(
            ("customers", "customers_then", "points_balance", "points_balance_then"), 1
        )
        told = {"segments": [{"segment": segment, **row} for segment in ("Top / 100 %", "New name")]}
        page.route("**/program/preview", lambda route: route.fulfill(json=told))
        page.get_by_role("button", name="Was würde sich ändern?").click()
        rows = page.locator("[data-previewed] tbody tr")
        expect(rows).to_have_count(2)
        assert [each.locator("th").inner_text() for each in rows.all()] == ["Spitze", "New name"]


@pytest.mark.parametrize(
    ("scopes", "pages"),
    [
        (("export",), ["Exports"]),
        (("read",), ["Overview", "Redemptions", "Products", "Program", "System", "Setting up"]),
        (
            ("read", "export", "admin"),
            ["Overview", "Redemptions", "Products", "Exports", "Program", "Notices", "System", "Setting up"],
        ),
    ],
)
def test_a_key_leads_to_what_it_opens(
    world: World, browser: Browser, scopes: tuple[str, ...], pages: list[str]
) -> None:
    world.program()
    world.customer("1")
    with page_of(browser, str(world.client.base_url), locale="en-US") as page:
        page.goto("/")
        page.get_by_label("API key").fill(world.key(*scopes)["Authorization"].removeprefix("Bearer "))
        page.get_by_role("button", name="Sign in").click()
        links = page.get_by_role("navigation").get_by_role("link")
        expect(links.first).to_be_visible()
        assert links.all_inner_texts() == pages
        for name in pages:
            page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
            expect(page.get_by_role("navigation").locator("[aria-current=page]")).to_have_text(name)
        page.get_by_role("link", name="LoyalNest").click()
        expect(page.get_by_role("navigation").locator("[aria-current=page]")).to_have_text(pages[0])
        if "export" in scopes:
            page.get_by_role("link", name="Exports").click()
            with page.expect_download() as download:
                page.get_by_role("button", name="Download").click()
            assert download.value.path().read_text().count("\n") == 2


def test_a_key_that_opens_no_page_can_leave(world: World, browser: Browser) -> None:
    world.program()
    with page_of(browser, str(world.client.base_url), locale="en-US") as page:
        page.goto("/")
        page.get_by_label("API key").fill(world.key("adjust")["Authorization"].removeprefix("Bearer "))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("Your key does not allow this.")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        assert page.context.cookies() == []


@pytest.mark.parametrize("width", [360, 1200])
def test_the_longest_names_and_numbers_fit(world: World, browser: Browser, width: int) -> None:
    names = [f"{'W' * 98}{number:02d}" for number in range(10)]
    longest, most, customer = "r" * 64, 10**13, "9" * 20
    reward = {"reward_id": longest, "cost": most, "kind": "amount", "value": "9999999.99", "name": "N" * 100}
    grid = [[names[(row + column) % 10] for column in range(5)] for row in range(5)]
    world.program(grid=grid, rewards=[reward | {"min_order": "9999999.99", "valid_days": 3650}])
    whole = {"balance": -most, "monetary": 9 * 10**15, "frequency": 2**31 - 1, "earned": most, "spent": most}
    world.customer(customer, segment=names[0], **whole)
    about = {"shop": SHOP, "customer_id": customer, "request_id": longest, "reward_id": longest, "cost": most}
    decided = {"decided_at": NOW, "requested_at": NOW, "seq": 1, "accepted": True, "balance": most, "forced": False}
    told = {"status": "issued", "points": -most, "revision": "1", "code": "C" * 64, "valid_until": NOW}
    world.insert("redemptions", **about, **decided, **told)
    gift = {"award_id": longest, "at": NOW, "points": most, "reason": "y" * 64, "source": "s" * 64}
    world.insert("awards", shop=SHOP, customer_id=customer, **gift, counts_as_earned=True)
    with page_of(browser, str(world.client.base_url), viewport={"width": width, "height": 740}) as page:
        sign_in(world, page, "read", "export", "adjust", "redeem", "till", "fulfil", "admin")
        here = f"/customers/{customer}"
        tails = ("", f"/segments/{names[0]}", f"/movement?current={names[0]}", here, f"{here}/redemptions/{longest}")
        for tail in (*tails, "/redemptions", "/exports", "/program"):
            page.goto(f"/shops/{SHOP}{tail}")
            expect(page.locator("[aria-busy=true]")).to_have_count(0)
            for details in page.locator("details").all():
                details.evaluate("each => { each.open = true; }")
            assert page.evaluate(BEYOND) == [], tail
