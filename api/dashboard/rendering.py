"""Pages from templates: a language's words, numbers and times as it writes them, and headers that keep a page safe."""

import io
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError, dates, negotiate_locale, numbers
from babel.localedata import locale_identifiers
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
    found = Locale.parse(name)
    for symbols in found.number_symbols.values():
        # Swiss thousands: Babel takes one apostrophe for a quote of its patterns, and drops it; two are one.
        if symbols.get("group") == "'":
            symbols["group"] = "''"
    return found


def _of_shop(tag: str | None) -> Locale | None:
    """A program's locale; of a country that Babel does not know, that of the language; None if it knows neither."""
    for name in () if tag is None else (tag.replace("-", "_"), tag.partition("-")[0]):
        try:
            return _locale(name)
        except (UnknownLocaleError, ValueError):
            continue
    return None


class Locales(NamedTuple):
    """In which language a page's words are, and as where its numbers, money and dates are written."""

    words: Locale
    figures: Locale


def locales_of(request: Request, shop: str | None = None) -> Locales:
    """Figures are the shop's, where its program names a locale. Words are in the language that somebody chose, else in
    the shop's, if we have it, else in the first that the browser asks for and we have; and so are figures without a
    shop's.
    """
    named = _of_shop(shop)
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        words = _locale(chosen)
    elif named is not None and named.language in LANGUAGES:
        words = named
    else:
        asked = [each.split(";")[0].strip() for each in request.headers.get("accept-language", "")[:200].split(",")]
        found = negotiate_locale([each.replace("-", "_") for each in asked if each], _LOCALES, sep="_")
        words = _locale(found or LANGUAGES[0])
    return Locales(words, named or words)


@cache
def locale_tags() -> list[str]:
    """The locales of countries that numbers can be written as, as a program names them."""
    return sorted(each.replace("_", "-") for each in locale_identifiers() if re.fullmatch("[a-z]{2,3}_[A-Z]{2}", each))


class Writing:
    """How a page writes words, numbers, money and times."""

    def __init__(self, locales: Locales, zone: str = "UTC") -> None:
        self.tag, self.figures_tag = (str(each).replace("_", "-") for each in locales)
        self.locale = locales.figures
        self.language = locales.words.language
        self.zone = ZoneInfo(zone)
        self._spoken = locales.words
        self._words = _translations(self.language)

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

    def decimal(self, value: Decimal | str) -> str:
        """With as many decimals as it has, six at most."""
        return str(numbers.format_decimal(Decimal(value), "#,##0.######", locale=self.locale))

    def weighted(self, parts: Iterable[tuple[str, int]]) -> str:
        """A weighted sum, as 0.4×5 + 0.6×3."""
        return " + ".join(f"{self.decimal(weight)}×{self.number(value)}" for weight, value in parts)

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
        pattern = re.sub(r"\.0+", "", self.locale.currency_formats["standard"].pattern)
        return str(numbers.format_currency(value, amount.currency, pattern, locale=self.locale, currency_digits=False))

    def moment(self, when: datetime | None, form: str = "medium") -> str:
        """Date and time in the shop's zone."""
        if when is None:
            return "–"
        return str(dates.format_datetime(when, form, tzinfo=self.zone, locale=self.locale))

    def day(self, when: datetime | None) -> str:
        """The date in the shop's zone."""
        return "–" if when is None else str(dates.format_date(when.astimezone(self.zone), locale=self.locale))

    def day_before(self, when: datetime | None) -> str:
        """The last date in the shop's zone before an instant: of what ends at a midnight, its last day."""
        return self.day(None if when is None else when - timedelta(microseconds=1))

    def passed(self, when: datetime | None) -> bool:
        """Whether that is over; nothing of what has no end is."""
        return when is not None and when <= datetime.now(UTC)

    def ago(self, when: datetime | None) -> str:
        """How long ago that is."""
        if when is None:
            return "–"
        passed = datetime.now(UTC) - when
        return str(dates.format_timedelta(-passed, add_direction=True, locale=self._spoken, threshold=1.2))


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
    locale: str | None = None,
    ancestors: str = "'none'",
    path: str | None = None,
    **values: Any,
) -> HTMLResponse:
    """A page of a template, as whoever asks reads it; `zone` and `locale` are the shop's. `path`: where it can be read,
    if that is not where a form was sent to."""
    writing = Writing(locales_of(request, locale), zone)
    here = path or request.url.path + (f"?{request.url.query}" if request.url.query else "")
    html = (
        _environment()
        .get_template(template)
        .render(w=writing, _=writing.gettext, languages=LANGUAGES, path=path or request.url.path, here=here, **values)
    )
    return HTMLResponse(html, status, headers(ancestors))
