"""What the dashboard is made of: words, the map's rectangles, who is sent where, and Shopify's session tokens."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from babel.messages import pofile
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from api.dashboard import grid, rendering, signing_in
from api.models import Money
from api.session_tokens import SessionTokens
from events.programs import GRID
from runtime.settings import Settings
from scripts import messages

NOW = int(datetime(2026, 11, 21, 9, 30, tzinfo=UTC).timestamp())


@pytest.mark.parametrize("language", [each for each in rendering.LANGUAGES if each != "en"])
def test_every_word_has_its_translation(language: str) -> None:
    with (messages.DASHBOARD / "locale" / f"{language}.po").open("rb") as file:
        catalogue = {each.id: each.string for each in pofile.read_po(file, locale=language) if each.id}
    said = {each.id for each in messages.gathered() if each.id}
    assert set(catalogue) == said, "run `make messages`"
    for text, translated in catalogue.items():
        assert translated, f"{text!r} has no translation"
        for places in (r"%\(\w+\)s", r"\{\w+\}"):
            assert sorted(re.findall(places, str(text))) == sorted(re.findall(places, str(translated))), text


#: Of problems that nobody meets on a page: webhooks', imports', and of a program that is put by a program.
NOT_ON_PAGES = {
    *("bad-signature", "broken-off", "no-import", "no-if-match", "other-shop", "there-already", "too-large"),
}

#: What a request was refused for, which the account decides.
DECIDED = {"closed", "insufficient-points", "merged"}

#: And what a page's module says where nothing was answered (static/problems.js).
UNANSWERED = {"away"}


def test_every_problem_that_a_page_may_meet_has_its_words() -> None:
    api = messages.DASHBOARD.parent
    code = re.compile(r'ProblemError\(\s*\d{3},\s*"([a-z-]+)"')
    told = {found for path in api.rglob("*.py") for found in code.findall(path.read_text(encoding="utf-8"))}
    words = (messages.DASHBOARD / "templates" / "parts" / "problems.html").read_text(encoding="utf-8")
    assert set(re.findall(r'^  "([a-z-]+)": _\(', words, re.MULTILINE)) == (told | DECIDED | UNANSWERED) - NOT_ON_PAGES


def locales(words: str, figures: str | None = None) -> rendering.Locales:
    return rendering.Locales(rendering._locale(words), rendering._locale(figures or words))


def asking(accept: str = "", chosen: str = "") -> Request:
    headers = [(b"accept-language", accept.encode()), (b"cookie", f"{rendering.LANGUAGE_COOKIE}={chosen}".encode())]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("shop", "browser", "chosen", "words", "figures"),
    [
        (None, "de-AT,en;q=0.5", "", "de_AT", "de_AT"),
        (None, "fr", "", "en", "en"),
        (None, "fr", "de", "de", "de"),
        ("de-CH", "en-US", "", "de_CH", "de_CH"),
        ("de-CH", "en-US", "en", "en", "de_CH"),
        ("fr-FR", "de-DE", "", "de_DE", "fr_FR"),
        ("fr-FR", "it", "", "en", "fr_FR"),
        ("zh-Hant-TW", "de-DE", "", "de_DE", "zh_Hant_TW"),
        ("de-ZZ", "en-US", "", "de_DE", "de_DE"),
        ("xx-YY", "en-GB", "", "en_GB", "en_GB"),
    ],
)
def test_figures_are_the_shops_and_words_somebodys(
    shop: str | None, browser: str, chosen: str, words: str, figures: str
) -> None:
    found = rendering.locales_of(asking(browser, chosen), shop)
    assert (str(found.words), str(found.figures)) == (words, figures)


def test_words_of_one_language_and_figures_of_another() -> None:
    swiss = rendering.Writing(locales("en", "de_CH"), "Europe/Zurich")
    amount = Money(amount="1234567.50", currency="CHF")
    assert (swiss.money(amount), swiss.money(amount, whole=True)) == ("CHF\xa01'234'567.50", "CHF\xa01'234'568")
    assert (swiss.number(1234567), swiss.tag, swiss.figures_tag) == ("1'234'567", "en", "de-CH")
    assert "21.11.2026" in swiss.moment(datetime(2026, 11, 21, 3, 0, tzinfo=UTC))
    assert swiss.ago(datetime.now(UTC) - timedelta(hours=5)) == "5 hours ago"
    yen = Money(amount="1234567", currency="JPY")
    assert rendering.Writing(locales("de_DE", "ja_JP")).money(yen, whole=True) == "¥1,234,567".replace("¥", "￥")


def test_numbers_money_and_times_are_as_the_language_writes_them() -> None:
    english = rendering.Writing(locales("en_US"), "America/New_York")
    german = rendering.Writing(locales("de_DE"), "Europe/Berlin")
    amount = Money(amount="1234567.50", currency="EUR")
    assert [english.money(amount), english.money(amount, whole=True)] == ["€1,234,567.50", "€1,234,568"]
    assert [german.money(amount), german.money(amount, whole=True)] == ["1.234.567,50\xa0€", "1.234.568\xa0€"]
    assert (english.percent(0.1234), german.percent(0.1234), english.percent(0.5, 0)) == ("12.3%", "12,3\xa0%", "50%")
    assert (english.number(1234.56, 1), german.number(1234), english.number(None)) == ("1,234.6", "1.234", "–")
    assert (english.signed(-5), english.signed(7)) == ("−5", "+7")
    when = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
    assert "Nov 20, 2026" in english.moment(when)
    assert "21.11.2026" in german.moment(when)


def test_the_default_grid_is_ten_rectangles() -> None:
    found = grid.tiles(GRID)
    assert len(found) == len({each.segment for each in found}) == 10
    assert found[0] == grid.Tile("Champions", 1, 1, 1, 2)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=5, max_size=5), min_size=5, max_size=5))
def test_rectangles_cover_each_cell_once(names: list[list[str]]) -> None:
    covered: dict[tuple[int, int], str] = {}
    for each in grid.tiles(names):
        for row in range(each.row, each.row + each.rows):
            for column in range(each.column, each.column + each.columns):
                assert (row, column) not in covered
                covered[row, column] = each.segment
    assert covered == {(r + 1, c + 1): name for r, row in enumerate(names) for c, name in enumerate(row)}


@pytest.mark.parametrize(
    "address",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb", "evil", ""],
)
def test_nobody_is_sent_elsewhere(address: str) -> None:
    assert signing_in.inside(address) == "/"
    assert signing_in.inside("/shops/a?b=c") == "/shops/a?b=c"


def token(secret: str = "new", algorithm: str = "HS256", **changes: Any) -> str:
    shop = "https://nest.myshopify.com"
    told = {"iss": f"{shop}/admin", "dest": shop, "aud": "app", "sub": "42", "nbf": NOW, "exp": NOW + 60, **changes}
    return jwt.encode({name: value for name, value in told.items() if value is not None}, secret, algorithm)


TOKENS = SessionTokens(Settings(shopify_client_id="app", shopify_secrets=[SecretStr("new"), SecretStr("old")]))


@pytest.mark.parametrize("secret", ["new", "old"])
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_session_token_is_of_its_shop(secret: str) -> None:
    granted = TOKENS.granted(token(secret), NOW * 1_000_000)
    assert granted is not None
    assert (granted.shops, granted.way, "pii" in granted.scopes) == (("nest.myshopify.com",), "shopify", False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": "another"},
        {"aud": "another"},
        {"exp": NOW - 6, "nbf": NOW - 66},
        {"nbf": NOW + 6},
        {"dest": "https://other.myshopify.com"},
        {"dest": "http://nest.myshopify.com", "iss": "http://nest.myshopify.com/admin"},
        {"dest": "https://evil.example", "iss": "https://evil.example/admin"},
        {"exp": None},
        {"exp": "soon"},
        {"sub": None},
        {"algorithm": "none", "secret": ""},
        {"algorithm": "HS512"},
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_session_token_that_is_not_right_opens_nothing(wrong: dict[str, Any]) -> None:
    assert TOKENS.granted(token(**wrong), NOW * 1_000_000) is None


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_without_a_client_id_no_token_is_taken() -> None:
    without = SessionTokens(Settings(shopify_secrets=[SecretStr("new")]))
    assert without.granted(token(), NOW * 1_000_000) is None
