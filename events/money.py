"""Money: integer minor units of a currency (ISO 4217), never a float."""

import re
from decimal import Context, Decimal
from functools import lru_cache

from events.errors import BadEvent

#: Decimal places of the currencies' minor units (ISO 4217, list one).
_EXPONENTS = {
    **dict.fromkeys(
        """AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY
        COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR
        IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD
        NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC
        SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD XCG YER ZAR ZMW ZWG ZWL""".split(),  # noqa: SIM905 (a list of 150 literals is no easier to read)
        2,
    ),
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV"), 0),
    **dict.fromkeys(("XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}

#: More than any store takes for one order: 100,000,000,000 dollars, or 6 million in rupiah (the least minor unit).
#: A customer or a window would need 900,000 orders of this size before a sum of ours left a 64-bit integer.
MAX_MINOR = 10**13

#: An order gives at most so many points, whatever its rule says: their sums stay inside 64 bits as well.
MAX_POINTS = 10**13


def exponent(currency: str) -> int:
    """Decimal places of the currency's minor unit: 2 for USD, 0 for JPY, 3 for KWD; BadEvent if unknown."""
    found = _EXPONENTS.get(currency)
    if found is not None:
        return found
    raise BadEvent("unknown_currency", f"{currency[:8]!r} is not an ISO 4217 currency in use")


#: What Decimal would take besides (underscores, NaN, other scripts' digits, exponents without end) is no amount.
_AMOUNT = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?")

#: Wide enough for anything of 40 characters: nothing is rounded before it is judged.
_EXACT = Context(prec=200)


def currencies(places: int) -> list[str]:
    """All whose minor unit has so many decimal places."""
    return [currency for currency, found in _EXPONENTS.items() if found == places]


@lru_cache(maxsize=65536)
def _minor(amount: str, places: int) -> int:
    if not _AMOUNT.fullmatch(amount):
        raise BadEvent("bad_amount", "not a decimal amount")
    units, _, part = amount.partition(".")
    if part.isdigit() and len(part) == places:  # as Shopify writes them
        whole = int(units + part)
    else:
        scaled = Decimal(amount).scaleb(places, _EXACT)
        whole = int(scaled)
        if whole != scaled:
            raise BadEvent("bad_amount", f"more decimals than the currency's {places}")
    if abs(whole) > MAX_MINOR:
        raise BadEvent("bad_amount", "an amount out of range")
    return whole


def minor(amount: object, currency: str) -> int:
    """Minor units of a decimal amount, exactly.

    Takes a decimal string, a Decimal or an integer of major units. A float has lost what was sent and is refused,
    as are an amount with more decimals than the currency has, and one that is not a number.
    """
    if not isinstance(amount, str) and isinstance(amount, Decimal | int) and not isinstance(amount, bool):
        amount = str(amount)
    if not isinstance(amount, str) or len(amount) > 40:
        raise BadEvent("bad_amount", f"a {type(amount).__name__} is not a decimal amount")
    return _minor(amount, exponent(currency))


def decimal_text(minor_units: int, currency: str) -> str:
    """The amount in major units with all its decimals: `12.30`, `1230` (JPY), `12.300` (KWD)."""
    places = exponent(currency)
    if places == 0:
        return str(minor_units)
    sign = "-" if minor_units < 0 else ""
    whole, part = divmod(abs(minor_units), 10**places)
    return f"{sign}{whole}.{part:0{places}d}"
