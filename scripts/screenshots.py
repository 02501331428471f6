"""Pictures of the dashboard for docs/ (`make screenshots`), of the demo store, by Chromium."""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "pictures"
SHOP = "demo.myshopify.com"

#: Each picture: the page's address behind the shop's, and what it is called.
PAGES = {"overview": "", "program": "/program"}


def _started(folder: Path, output: Path) -> subprocess.Popen[bytes]:
    with output.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", "demo", "--data", str(folder), "--port", "0"],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )


def _link(process: subprocess.Popen[bytes], output: Path) -> str:
    deadline = time.monotonic() + 600
    while "Serving on" not in (said := output.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the demo did not come up:\n{said}")
        time.sleep(0.5)
    return next(word for word in said.split() if "/sign-in#" in word)


def _stands(page: Page) -> None:
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    if page.locator("[data-charts]").count():
        expect(page.locator(".js-plotly-plot").first).to_be_visible()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", default=shutil.which("chromium"), help="the browser's path")
    browser = parser.parse_args().browser
    if browser is None:
        print("screenshots: there is no Chromium: `make browser` installs Debian's", file=sys.stderr)
        return 1
    expect.set_options(timeout=60_000)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        process = _started(Path(folder, "demo"), output)
        try:
            with sync_playwright() as playwright:
                opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
                context = opened.new_context(viewport={"width": 1200, "height": 900}, locale="en-US")
                page = context.new_page()
                page.goto(_link(process, output))
                page.wait_for_url(f"**/shops/{SHOP}")
                base = page.url
                FOLDER.mkdir(exist_ok=True)
                for name, tail in PAGES.items():
                    page.goto(base + tail)
                    _stands(page)
                    page.screenshot(path=FOLDER / f"{name}.png", full_page=name == "overview")
                opened.close()
        finally:
            process.terminate()
            process.wait(60)
    print(f"{len(PAGES)} pictures are in {FOLDER.relative_to(ROOT)}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
