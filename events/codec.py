"""Bytes to values and back: orjson, in this one place (and msgspec, for numbers that must stay what they are).

`loads` is for what we wrote ourselves. `loads_exact` is for what others wrote: it keeps a JSON number's decimals,
which a float would round.
"""

import json
from contextlib import suppress
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

import msgspec
import orjson

from events.errors import BadEvent

_SORTED = orjson.OPT_SORT_KEYS


def dumps(value: Any) -> bytes:
    """JSON as it goes on a topic, in UTF-8. TypeError for what JSON has no form for."""
    return orjson.dumps(value)


def joined(data: bytes, more: dict[str, Any]) -> bytes:
    """A JSON object as `dumps` writes it, with more fields at its end."""
    if not more:
        return data
    rest = orjson.dumps(more)
    return rest if data == b"{}" else data[:-1] + b"," + rest[1:]


def loads(data: bytes) -> Any:
    """The value of a JSON text; BadEvent if it is none."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadEvent("bad_json", str(error)) from None


def _no_constant(name: str) -> Any:
    raise BadEvent("bad_json", f"{name} is not JSON")


#: Only the text of a number with a point, or an exponent, comes by the hook.
_EXACT: Final = msgspec.json.Decoder(float_hook=Decimal)


def loads_exact(data: bytes) -> Any:
    """As `loads`, with JSON's decimal numbers as Decimal. It also takes half a surrogate pair."""
    with suppress(ValueError, RecursionError):
        return _EXACT.decode(data)
    try:  # in ten times as long
        return json.loads(data, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadEvent):
            raise
        raise BadEvent("bad_json", type(error).__name__) from None


def digest(value: Any) -> str:
    """SHA-256, hex, of the value's canonical JSON (sorted keys, no spaces)."""
    return sha256(orjson.dumps(value, option=_SORTED)).hexdigest()
