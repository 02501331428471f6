"""Pictures of the dashboard for docs/ (`make screenshots`), of the demo store, by Chromium."""

import argparse
import shutil
import sys

from playwright.sync_api import Page, expect, sync_playwright

from scripts import demo

FOLDER = demo.ROOT / "docs" / "pictures"

#: Each picture: the page's address behind the shop's, and what it is called.
PAGES = {"overview": "", "redemptions": "/redemptions", "program": "/program"}


def _stands(page: Page) -> None:
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    if page.locator("[data-charts]").count():
        page.locator("[data-charts]").scroll_into_view_if_needed()
        expect(page.locator(".js-plotly-plot").first).to_be_visible()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", default=shutil.which("chromium"), help="the browser's path")
    browser = parser.parse_args().browser
    if browser is None:
        print("screenshots: there is no Chromium: `make browser` installs Debian's", file=sys.stderr)
        return 1
    expect.set_options(timeout=60_000)
    with demo.serving() as store, sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        context = opened.new_context(viewport={"width": 1200, "height": 900}, locale="en-US")
        page = context.new_page()
        page.goto(store.link)
        page.wait_for_url(f"**/shops/{demo.SHOP}")
        base = page.url
        FOLDER.mkdir(exist_ok=True)
        for name, tail in PAGES.items():
            page.goto(base + tail)
            _stands(page)
            page.screenshot(path=FOLDER / f"{name}.png", full_page=name == "overview")
        opened.close()
    print(f"{len(PAGES)} pictures are in {FOLDER.relative_to(demo.ROOT)}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
