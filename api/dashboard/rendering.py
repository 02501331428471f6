"""Pages from templates: a language's words, numbers and times as it writes them, and headers that keep a page safe."""

import io
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from babel import Locale, dates, negotiate_locale, numbers
from babel.messages import mofile, pofile
from babel.support import Translations
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.models import Money

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"

#: Languages with a catalogue; the first is that of the templates.
LANGUAGES: Final = ("en", "de")

#: Numbers and dates differ by country.
_LOCALES: Final = ("en_US", "en_GB", "de_DE", "de_AT", "de_CH", *LANGUAGES)

#: The cookie of who has chosen a language.
LANGUAGE_COOKIE: Final = "loyalnest-language"

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}"
)


def headers(ancestors: str = "'none'") -> dict[str, str]:
    """What goes with every page. `ancestors`: who may show it in a frame."""
    return {
        "Content-Security-Policy": _POLICY.format(ancestors=ancestors),
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


@cache
def _translations(language: str) -> Translations:
    file = _HERE / "locale" / f"{language}.po"
    if not file.exists():
        return Translations()
    with file.open("rb") as opened:
        catalogue = pofile.read_po(opened, locale=language)
    compiled = io.BytesIO()
    mofile.write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)


@lru_cache(maxsize=64)
def _locale(name: str) -> Locale:
    return Locale.parse(name)


def locale_of(request: Request) -> Locale:
    """Who chose a language gets it; else the first one that the browser asks for and we have."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        return _locale(chosen)
    asked = [each.split(";")[0].strip() for each in request.headers.get("accept-language", "")[:200].split(",")]
    found = negotiate_locale([each.replace("-", "_") for each in asked if each], _LOCALES, sep="_")
    return _locale(found or LANGUAGES[0])


class Writing:
    """How a page writes words, numbers, money and times."""

    def __init__(self, locale: Locale, zone: str = "UTC") -> None:
        self.locale = locale
        self.language = locale.language
        self.zone = ZoneInfo(zone)
        self._words = _translations(locale.language)

    def gettext(self, text: str, **values: object) -> str:
        """The text in the page's language."""
        found: str = self._words.gettext(text)
        return found % values if values else found

    def ngettext(self, one: str, many: str, n: int, **values: object) -> str:
        """Likewise, for so many."""
        found: str = self._words.ngettext(one, many, n)
        return found % {"n": self.number(n), **values}

    def number(self, value: float | Decimal | None, digits: int = 0) -> str:
        """With separators."""
        if value is None:
            return "–"
        pattern = "#,##0" + ("." + "0" * digits if digits else "")
        return str(numbers.format_decimal(value, pattern, locale=self.locale))

    def signed(self, value: int) -> str:
        """With its sign."""
        return f"{'+' if value > 0 else '−' if value < 0 else '±'}{self.number(abs(value))}"

    def percent(self, share: float | None, digits: int = 1) -> str:
        """A share of 1."""
        if share is None:
            return "–"
        pattern = str(self.locale.percent_formats[None].pattern)
        if digits:
            pattern = pattern.replace("0", "0." + "0" * digits, 1)
        return str(numbers.format_percent(share, pattern, self.locale))

    def money(self, amount: Money, *, whole: bool = False) -> str:
        """To the cent, or in whole units."""
        value = Decimal(amount.amount)
        if not whole:
            return str(numbers.format_currency(value, amount.currency, locale=self.locale))
        return str(
            numbers.format_currency(
                value,
                amount.currency,
                "¤#,##0" if self.language == "en" else "#,##0\xa0¤",
                locale=self.locale,
                currency_digits=False,
            )
        )

    def moment(self, when: datetime | None, form: str = "medium") -> str:
        """Date and time in the shop's zone."""
        if when is None:
            return "–"
        return str(dates.format_datetime(when, form, tzinfo=self.zone, locale=self.locale))

    def day(self, when: datetime | None) -> str:
        """The date in the shop's zone."""
        return "–" if when is None else str(dates.format_date(when.astimezone(self.zone), locale=self.locale))

    def ago(self, when: datetime | None) -> str:
        """How long ago that is."""
        if when is None:
            return "–"
        passed = datetime.now(UTC) - when
        return str(dates.format_timedelta(-passed, add_direction=True, locale=self.locale, threshold=1.2))


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(
    request: Request,
    template: str,
    *,
    status: int = 200,
    zone: str = "UTC",
    ancestors: str = "'none'",
    **values: Any,
) -> HTMLResponse:
    """A page of a template, as whoever asks reads it."""
    writing = Writing(locale_of(request), zone)
    html = (
        _environment()
        .get_template(template)
        .render(w=writing, _=writing.gettext, languages=LANGUAGES, path=request.url.path, **values)
    )
    return HTMLResponse(html, status, headers(ancestors))
