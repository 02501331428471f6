"""A real browser for the tests: Debian's Chromium (`make browser`), driven by Playwright.

Its headless shell, where it is there, shows the same pages without the windows around them: for a third of the CPU.

Without one the tests that want it are left out, and say so; under CI=true they fail.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

_WORDS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    "--disable-features=LocalNetworkAccessChecks",  # a page that a test makes up may frame one of loopback
)


#: How long anything may take to appear (milliseconds): a busy machine is no failure. How fast it is, the bench tells.
_PATIENCE: Final = 30_000
expect.set_options(timeout=_PATIENCE)


@contextmanager
def started() -> Iterator[Browser]:
    """Chromium, without a window; a skip where there is none."""
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no Chromium: `make browser` installs Debian's")
        pytest.skip("there is no Chromium here: `make browser` installs Debian's")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_WORDS))
        try:
            yield browser
        finally:
            browser.close()


def _is_ours(said: ConsoleMessage) -> bool:
    """An error, but for an answer that a test means to get: Chromium tells of each that is none of 200."""
    return said.type == "error" and not said.text.startswith("Failed to load resource")


@contextmanager
def page_of(browser: Browser, base_url: str, **about: object) -> Iterator[Page]:
    """A page of a fresh profile. Fails the test for an error of a script, or for something the policy refused."""
    context = browser.new_context(base_url=base_url, **about)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(_PATIENCE)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if _is_ours(said) else None)
    try:
        yield page
        assert not wrong, wrong
    finally:
        context.close()
