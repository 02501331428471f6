"""Envelopes in the one form in which our front door writes them, known by one look at their text.

Of a topic's fields (events/webhook_topics.py) a regular expression is made. What it matches is minimised already: each
field there is of its type, in our order, as `codec.dumps` writes it. So it need not be read to be kept, and whoever
reads it has nothing left to check. What it does not match may be right all the same: events/envelopes.py reads that
with care.
"""

import re
from functools import cache
from typing import Any, Final, NamedTuple

from events.webhook_topics import TOPICS, Leaf, Spare, Spec

_BEGINS: Final = '{"topic":"'

#: What needs no escape in JSON, a whole number of 64 bits, and what stands between the fields of an object or a list.
_TEXT: Final = r'"[ !#-\[\]-~]*+"'
_WHOLE: Final = r"(?:0|[1-8][0-9]{18}|[1-9][0-9]{0,17})"
_NEXT_FIELD: Final = r"(?:,(?!\})|(?=\}))"
_NEXT_ITEM: Final = r"(?:,(?!\])|(?=\]))"

_HEAD: Final = (
    r'","shop":"([a-z0-9][a-z0-9-]{0,62}\.myshopify\.com)","webhook_id":"([!#-\[\]-~]{1,128})"'
    rf',"event_id":(?:null|{_TEXT}),"api_version":(?:null|{_TEXT})'
    r',"triggered_at":"([0-9T:.Z+-]*+)","received_at":"([0-9T:.Z+-]*+)","payload":'
)


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
    topic = text[len(_BEGINS) : text.find('"', len(_BEGINS))]
    known = TOPICS.get(topic)
    if known is None or known.stream != stream or known.only is not None or "shop_domain" in known.fields:
        return None  # of some topics more is looked at than each field alone (payloads.check)
    found = _form(topic).fullmatch(text)
    return None if found is None else Plain(*found.groups())


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
    # A class of all but some signs holds neither the quote nor the escape; no other class does.
    form = leaf.form.replace("[^", r'[^"\\')
    kinds = [rf'"({form})"' if told else f'"{form}"']
    kinds += [_WHOLE] * leaf.whole + ["true", "false"] * leaf.boolean
    return f"(?:{'|'.join(kinds)})"
