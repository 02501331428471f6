"""Envelopes and records in the one form in which we write them, known by one look at their text.

Of a webhook topic's fields (events/webhook_topics.py) a regular expression is made. What it matches is minimised
already: each field there is of its type, in our order, as `codec.dumps` writes it. So it need not be read to be kept,
and whoever reads it has nothing left to check. Of a record's JSON Schema likewise. What they do not match may be right
all the same: events/envelopes.py and events/records.py read that with care.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from events.webhook_topics import TOPICS, Leaf, Spare, Spec

_BEGINS: Final = '{"topic":"'

#: events.fields.Instant, of most of its years: whatever this matches is an instant.
_DATE: Final = (
    r"(?:(?:19[7-9][0-9]|2[0-9]{3})-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    r"|(?:19(?:7[26]|8[048]|9[26])|2[0-9](?:0[48]|[2468][048]|[13579][26])|2[048]00)-02-29)"
)
_MOMENT: Final = rf"{_DATE}T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){{2}}(?:\.[0-9]{{1,6}})?Z"
_INSTANT: Final = f'"{_MOMENT}"'

#: What needs no escape in JSON, a whole number of 64 bits, and what stands between the fields of an object or a list.
_TEXT: Final = r'"[ !#-\[\]-~]*+"'
_WHOLE: Final = r"(?:0|-?(?:[1-8][0-9]{18}|[1-9][0-9]{0,17}))"
_NEXT_FIELD: Final = r"(?:,(?!\})|(?=\}))"
_NEXT_ITEM: Final = r"(?:,(?!\])|(?=\]))"

_HEAD: Final = (
    r'","shop":"([a-z0-9][a-z0-9-]{0,62}\.myshopify\.com)","webhook_id":"([!#-\[\]-~]{1,128})"'
    rf',"event_id":(?:null|{_TEXT}),"api_version":(?:null|{_TEXT})'
    rf',"triggered_at":"({_MOMENT})","received_at":"({_MOMENT})","payload":'
)


_START: Final = len(_BEGINS)

#: Streams and their topics, but for those of which more is looked at than each field alone (payloads.check).
_KNOWN: Final = {
    (known.stream, topic) for topic, known in TOPICS.items() if known.only is None and "shop_domain" not in known.fields
}


class Plain(NamedTuple):
    """What a plain envelope says beside its payload, and of an order its `financial_status`; all as it stands there."""

    topic: str
    shop: str
    webhook_id: str
    triggered_at: str
    received_at: str
    status: str | None = None


def look(text: str, stream: str) -> Plain | None:
    """What a plain envelope of the Kafka topic `stream` says; None for any other text."""
    found = match(text, stream)
    return None if found is None else Plain(*found.groups())


def match(text: str, stream: str) -> re.Match[str] | None:
    """Whether a text is a plain envelope of the Kafka topic `stream`."""
    topic = text[_START : text.find('"', _START)]
    return _form(topic).fullmatch(text) if (stream, topic) in _KNOWN else None


@cache
def _form(topic: str) -> re.Pattern[str]:
    known = TOPICS[topic]
    payload = _object(known.fields, **{name: _value(name, known.fields[name]) for name in known.needs})
    return re.compile(r"\{" + _BEGINS[1:] + f"({topic})" + _HEAD + payload + r"\}")


def _object(spec: Spec, **said: str) -> str:
    """Any of the fields, in their order; those that are `said` are there, and are so."""
    fields = (
        f'"{name}":{said[name]}{_NEXT_FIELD}'
        if name in said
        else f'(?:"{name}":(?:null|{_value(name, each)}){_NEXT_FIELD})?+'
        for name, each in spec.items()
    )
    return r"\{" + "".join(fields) + r"\}"


def _value(name: str, spec: Any) -> str:
    if isinstance(spec, Spare):
        return _value(name, spec.spec)
    if isinstance(spec, dict):
        return _object(spec)
    if isinstance(spec, list):
        # (Of an order's lines those that say nothing are left out.)
        return rf"\[(?:(?!\{{\}}){_line(spec[0]) if name == 'line_items' else _object(spec[0])}{_NEXT_ITEM})*+\]"
    return _leaf(spec, told=name == "financial_status")


def _line(spec: Spec) -> str:
    """An order's line: one that is no gift card has its price alone."""
    other = {name: each for name, each in spec.items() if name != "price_set"}
    return f"(?:{_object(other)}|{_object(spec, gift_card='true')})"


def _leaf(leaf: Leaf, told: bool) -> str:
    form = f"({'' if told else '?:'}{_unescaped(leaf.form)})"  # a group: a form may have alternatives
    kinds = [f'"{form}"', *[_WHOLE] * leaf.whole, *["true", "false"] * leaf.boolean]
    return f"(?:{'|'.join(kinds)})"


def _unescaped(form: str) -> str:
    """A text's form without the quote and the escape. (Only these classes of signs have them.)"""
    for signs, fewer in (("[^", r'[^"\\'), ("[ -~]", r"[ !#-\[\]-~]"), ("[!-~]", r"[!#-\[\]-~]")):
        form = form.replace(signs, fewer)
    return form


def of_schema(schema: Mapping[str, Any]) -> re.Pattern[str]:
    """The form of a record, by its JSON Schema (of events.records): each field within its bounds, in its order."""
    return re.compile(_schema(schema, schema.get("$defs", {})))


def _schema(schema: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    match schema:
        case {"$ref": name}:
            return _schema(named[name.rpartition("/")[2]], named)
        case {"anyOf": several}:
            return f"(?:{'|'.join(_schema(each, named) for each in several)})"
        case {"enum": words}:
            return f"(?:{'|'.join(map(_word, words))})"
        case {"const": word}:
            return _word(word)
        case {"type": "object", "properties": fields, "required": required, "additionalProperties": False}:
            return r"\{" + "".join(_field(name, each, required, named) for name, each in fields.items()) + r"\}"
        case {"type": "array", "items": item}:
            several = f"{{0,{schema['maxItems']}}}" if "maxItems" in schema else "*"
            return rf"\[(?:{_schema(item, named)}{_NEXT_ITEM}){several}+\]"
        case {"type": "string", "format": "date-time"}:
            return _INSTANT
        case {"type": "string", "pattern": pattern}:
            return f'"{_unescaped(pattern.removeprefix("^").removesuffix("$"))}"'
        case {"type": "integer", "minimum": least, "maximum": most}:
            return _integer(least, most)
        case {"type": "boolean"}:
            return "(?:true|false)"
        case {"type": "null"}:
            return "null"
    raise ValueError(f"no form for {schema}")


def _word(word: str) -> str:
    return re.escape(json.dumps(word))


def _field(name: str, schema: Mapping[str, Any], required: list[str], named: Mapping[str, Any]) -> str:
    field = f'"{name}":{_schema(schema, named)}{_NEXT_FIELD}'
    return field if name in required else f"(?:{field})?+"


def _integer(least: int, most: int) -> str:
    """Integers of fewer digits than the bounds have; of a small range all."""
    if most - least < 10:
        return f"(?:{'|'.join(map(str, range(least, most + 1)))})"
    digits = len(str(min(most, -least) if least < 0 else most)) - 1
    return f"(?:0|{'-?' * (least < 0)}[1-9][0-9]{{0,{digits - 1}}})"
