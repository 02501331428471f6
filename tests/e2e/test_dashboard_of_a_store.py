"""The dashboard of a store that was played at a whole LoyalNest: every page's figures are the API's, and it moves."""

import asyncio
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from cli.shop import store_maker
from cli.shop.player import Player
from cli.stack import embedded
from events import instants
from tests.browsers import page_of, started
from tests.e2e.up import Up, up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHOP = "nest.myshopify.com"
CUSTOMERS, WEBHOOKS = 60, 400


@pytest.fixture(scope="module")
def stack() -> Iterator[Up]:
    """Everything embedded, and the demo's store in small."""
    parent = Path(tempfile.mkdtemp(prefix="loyalnest-"))  # not under pytest's own: the server's user must enter it
    try:
        with up(parent / "data") as running:
            running.run("shops", "add", "nest")
            secret = embedded.webhook_secrets(running.settings())[0].get_secret_value()
            until = instants.from_datetime(datetime.now(UTC))
            store = store_maker.make_store(until, customers=CUSTOMERS, webhooks=WEBHOOKS)
            asyncio.run(Player(running.announced["api"], SHOP, secret).post(store))
            for ago in (1, 0):
                running.run("batch", "segments", "--shop", "nest", "--as-of", _day(ago))
            running.run("batch", "analytics", "--shop", "nest")
            yield running
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def _day(ago: int) -> str:
    return (datetime.now(UTC) - timedelta(days=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def browser(stack: Up) -> Iterator[Browser]:
    """After the store was played: beside Playwright's loop there is none in this thread."""
    with started() as running:
        yield running


@pytest.fixture(scope="module")
def page(stack: Up, browser: Browser) -> Iterator[Page]:
    link = stack.run("sign-in", "nest", *(word for scope in SCOPES for word in ("--scope", scope))).strip()
    with page_of(browser, link.partition("/sign-in")[0], locale="en-US") as opened:
        opened.goto(link)
        opened.wait_for_url(f"**/shops/{SHOP}")
        yield opened


SCOPES = ("read", "export", "admin")


def api(page: Page, path: str) -> Any:
    answer = page.request.get(f"/v1/shops/{SHOP}{path}")
    assert answer.ok, answer.text()
    return answer.json()


def show(page: Page, path: str = "") -> None:
    page.goto(f"/shops/{SHOP}{path}")
    expect(page.locator("[aria-busy=true]")).to_have_count(0)


def number(text: str | None) -> float:
    """A figure as the page writes it in English."""
    found = re.sub(r"[^0-9.\u2212-]", "", text or "").replace("\u2212", "-")
    return float(found or 0)


def figures(rows: Locator) -> list[list[str]]:
    """The cells of a table's rows."""
    return rows.evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))")  # type: ignore[no-any-return]


def table(page: Page, section: str) -> list[list[str]]:
    return figures(page.locator(f"section[aria-labelledby={section}] tbody tr"))


def test_the_overview(page: Page) -> None:
    show(page)
    told = api(page, "/segments")
    assert told["customers"] > CUSTOMERS / 2
    prospects = sum(each["customers"] for each in told["segments"] if each["segment"] == "Prospects")
    tiles = {
        name: page.locator(f"[data-live={name}]").inner_text() for name in ("customers", "active", "revenue", "points")
    }
    points = sum(each["points_balance"] for each in told["segments"])
    assert number(tiles["customers"]) == told["customers"]
    assert number(tiles["active"]) == told["customers"] - prospects
    assert number(tiles["revenue"]) == pytest.approx(float(told["revenue"]["amount"]), abs=0.5)
    assert number(tiles["points"]) == points
    page.get_by_text("As a table").click()
    rows = table(page, "map")
    assert [number(cell) for row in rows for cell in row[1:6]] == [
        pytest.approx(value, abs=0.06)
        for each in told["segments"]
        for value in (
            each["customers"],
            each["share"] * 100,
            float(each["revenue"]["amount"]),
            each["revenue_share"] * 100,
            each["mean_recency_days"] or 0,
        )
    ]
    for each in told["segments"]:
        cell = page.locator(f".map-and-key [data-segment='{each['segment']}']").first
        assert number(cell.inner_text()) == each["customers"]


def test_orders_net_and_points(page: Page) -> None:
    show(page)
    page.locator("[data-chart=orders]").scroll_into_view_if_needed()
    expect(page.locator("[data-chart=orders] .bars")).to_be_visible()
    windows = api(page, "/points/windows?size=day")["items"]
    drawn = {
        name: page.evaluate(f"document.querySelector('[data-chart={name}]').data.map((each) => [...each.y])")
        for name in ("orders", "net", "points")
    }
    assert windows
    assert drawn["orders"] == [[each["orders"] + each["guest_orders"] for each in windows]]
    assert drawn["net"][0] == pytest.approx(
        [float(each["net"]["amount"]) + float(each["guest_net"]["amount"]) for each in windows]
    )
    assert drawn["points"] == [
        [each["points_earned"] for each in windows],
        [each["points_awarded"] for each in windows],
        [-each["points_reversed"] for each in windows],
        [-each["points_redeemed"] for each in windows],
    ]


def test_movement_and_its_people(page: Page) -> None:
    show(page)
    since = page.locator("#since").input_value()
    told = api(page, f"/segments/movement?from={since}T00:00:00Z")
    shown = page.locator(".matrix tbody a").all()
    assert sorted(number(each.inner_text()) for each in shown) == sorted(
        each["customers"] for each in told["moves"] if each["current"] is not None
    )
    move = max(told["moves"], key=lambda each: each["customers"])
    cell = f"previous={quote(move['previous'] or '')}&current={quote(move['current'] or '')}"
    page.locator(f".matrix a[href$='{cell}']").click()
    people = api(page, f"/segments/movement/customers?from={since}T00:00:00Z&limit=50&{cell}")["items"]
    assert [row[0] for row in table(page, "people")] == [each["customer_id"] for each in people]
    assert len(people) == min(move["customers"], 50)


def test_cohorts_and_sizes(page: Page) -> None:
    show(page)
    cohorts = api(page, "/cohorts")["cohorts"][-12:]
    shown = figures(page.locator(".cohorts tbody tr"))
    assert [(row[0], number(row[1])) for row in shown] == [(each["month"], each["customers"]) for each in cohorts]
    for row, each in zip(shown, cohorts, strict=True):
        shares = [month["customers"] / each["customers"] for month in each["months"]]
        assert [number(cell) for cell in row[2:]] == [pytest.approx(share * 100, abs=0.51) for share in shares]
    today = datetime.now(UTC).date()
    days = api(page, f"/segments/history?from={today - timedelta(days=90)}&to={today + timedelta(days=1)}")["days"]
    page.locator("[data-chart=sizes]").scroll_into_view_if_needed()
    expect(page.locator("[data-chart=sizes] .plot-container")).to_be_visible()
    drawn = page.evaluate("document.querySelector('[data-chart=sizes]').data.map((each) => [each.name, [...each.y]])")
    assert {name: list(map(int, sizes)) for name, sizes in drawn} == {
        name: [next((s["customers"] for s in day["segments"] if s["segment"] == name), 0) for day in days]
        for name in {each["segment"] for day in days for each in day["segments"]}
    }


def test_every_segment_and_its_people(page: Page) -> None:
    for each in api(page, "/segments")["segments"]:
        show(page, f"/segments/{quote(each['segment'])}")
        assert number(page.locator(".tile p").first.inner_text()) == each["customers"]
        people = api(page, f"/customers?segment={quote(each['segment'])}&sort=-monetary&limit=50")["items"]
        rows = table(page, "people")
        assert [row[0] for row in rows] == [one["customer_id"] for one in people]
        for row, one in zip(rows, people, strict=True):
            wanted = one["recency_days"] or 0, one["frequency"], float(one["monetary"]["amount"]), one["points_balance"]
            assert tuple(map(number, row[2:6])) == wanted


def test_a_customer_and_their_orders(page: Page) -> None:
    best = api(page, "/customers?sort=-frequency&limit=1")["items"][0]["customer_id"]
    show(page, f"/customers/{best}")
    told, ledger = api(page, f"/customers/{best}"), api(page, f"/customers/{best}/points?limit=50")
    assert number(page.locator(".tile p").first.inner_text()) == told["points_balance"] == ledger["points_balance"]
    assert [(number(row[1]), [*map(number, row[2].split("·"))], row[3]) for row in table(page, "why")] == [
        (float(each["value"]), [*map(float, each["cut_points"])], str(each["digit"])) for each in told["why"]["metrics"]
    ]
    orders = api(page, f"/customers/{best}/orders?limit=50")["items"]
    assert [(row[0], number(row[3]), number(row[4])) for row in table(page, "orders")] == [
        (each["order_id"], float(each["net"]["amount"]), each["points"]) for each in orders
    ]
    assert [number(row[3]) for row in table(page, "ledger")] == [each["points"] for each in ledger["items"]]
    history = api(page, f"/customers/{best}/rfm?limit=50")["items"]
    expect(page.locator(".line li")).to_have_count(len(history))


def test_products(page: Page) -> None:
    show(page, "/products")
    products = api(page, "/products?sort=-monetary&limit=50")["items"]
    rows = figures(page.locator("tbody tr"))
    assert [(number(row[1]), number(row[2]), number(row[3])) for row in rows] == [
        (float(each["monetary"]["amount"]), each["frequency"], each["buyers"]) for each in products
    ]
    assert products


def test_program_system_exports_and_notices(page: Page) -> None:
    program = api(page, "/program")
    show(page, "/program")
    assert page.locator("[name=zone]").input_value() == program["zone"]
    assert page.locator("[name=look_back_days]").input_value() == str(program["look_back_days"])
    assert [each.input_value() for each in page.locator("[name=grid]").all()] == [
        name for row in program["grid"] for name in row
    ]
    show(page, "/system")
    runs = api(page, "/batches")["runs"]
    assert [tuple(map(number, row[2:5])) for row in table(page, "batches")] == [
        (each["customers"], each["scored"], each["rescored"]) for each in runs
    ]
    lag = api(page, "/lag")
    assert lag["running"]
    for who in ("worker", "sink"):
        assert (lag[who]["records"], page.locator(f"[data-lag={who}]").get_attribute("data-value")) == (0, "0")
    page.request.get(f"/v1/shops/{SHOP}/exports/segments.csv?segment=Loyal").body()
    show(page, "/exports")
    exports = api(page, "/exports")["exports"]
    assert [number(row[4]) for row in table(page, "made")] == [each["rows"] for each in exports]
    show(page, "/notices")
    expect(page.get_by_text("Nobody is told yet.")).to_be_visible()
    show(page, "/start")
    assert [each.get_attribute("class") for each in page.locator(".steps li").all()] == [
        "done",
        "",
        "done",
        "done",
        "done",
    ]


def test_an_order_moves_the_page(stack: Up, page: Page, tmp_path: Path) -> None:
    show(page)
    before = api(page, "/segments")
    file = tmp_path / "orders.csv"
    when = datetime.now(UTC) - timedelta(days=1)
    file.write_text(f"order_id,customer_id,processed_at,amount\n99,88,{when.isoformat()},1000.00\n")
    stack.run("play", str(file), "--shop", "nest")
    customers, points = page.locator("[data-live=customers]"), page.locator("[data-live=points]")
    expect(customers).to_have_attribute("data-value", str(before["customers"] + 1))
    total = 1000 + sum(each["points_balance"] for each in before["segments"])
    expect(points).to_have_attribute("data-value", str(total))
    expect(customers).to_have_class("moved")
