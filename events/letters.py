"""Dead letters: what could not be used, why, and where it came from, without anybody's data in clear.

Each is made here, whoever met it: the worker and the sink (`of_message`), the front door and the pump (`letter`).
"""

import re
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from events import codec, envelopes, instants, keys
from events.errors import BadEvent
from events.records import MAX_DETAIL, MAX_LETTER, DeadLetter

#: Where the front door's dead letters come from, instead of a topic.
WEBHOOK: Final = "webhook"

#: The keys of our topics: a shop, with an id, a version or a number.
_KEY: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\.myshopify\.com(/[0-9A-Za-z.:_+-]{1,64})?")

#: What a topic, a time, a version or an id of Shopify's is made of.
_PLAIN: Final = re.compile(r"[0-9A-Za-z._:/+=-]{1,128}")


def letter(
    ident: str,
    at: int,
    source: str,
    error: BadEvent,
    *,
    key: str = "",
    partition: int | None = None,
    offset: int | None = None,
    value: str | None = None,
    sealed: str | None = None,
) -> DeadLetter:
    """A dead letter; `at` in microseconds. What is in `value` goes on in clear, so it must hold nobody's data."""
    if not _KEY.fullmatch(key):
        key = ""  # somebody's own idea of a key, which may name a person
    return {
        "id": ident,
        "at": instants.text(at),
        "shop": keys.split(key)[0] or None,
        "source": source,
        "partition": partition,
        "offset": offset,
        "key": key or None,
        "error": error.reason,
        "detail": error.detail.encode(errors="replace").decode()[:MAX_DETAIL],
        "value": value,
        "sealed": sealed,
    }


def of_message(
    topic: str, partition: int, offset: int, timestamp: int, key: bytes | None, value: bytes | None, error: BadEvent
) -> DeadLetter:
    """The dead letter of a Kafka message (`timestamp` in milliseconds), the same whoever makes it. Never raises.

    An envelope is minimised; what cannot be minimised leaves only its place behind: the message itself stays in its
    topic, where its retention ends it.
    """
    text = None if value is None else _clear(topic, value)
    if text is not None and len(text) > MAX_LETTER:
        text = None
    return letter(
        str(uuid5(NAMESPACE_URL, f"{topic}/{partition}/{offset}/{timestamp}")),
        instants.of_kafka(timestamp),
        topic,
        error,
        key=(key or b"").decode(errors="replace"),
        partition=partition,
        offset=offset,
        value=text,
    )


def _clear(topic: str, value: bytes) -> str | None:
    """What of a message may be repeated in clear."""
    if topic.startswith("loyalnest."):
        return value.decode(errors="replace")
    try:
        found = codec.loads_exact(value)
        shop = keys.shop_domain(found["shop"])
        found["payload"] = envelopes.checked(found["topic"], shop, found["payload"], lambda: found["payload"])
        return codec.dumps({name: _harmless(name, found.get(name)) for name in envelopes.FIELDS}).decode()
    except Exception:  # whatever it is: that it cannot be used is known already
        return None


def _harmless(name: str, value: Any) -> Any:
    """A field of an envelope if it can be what its model says and nothing else, else null."""
    return value if name == "payload" or (isinstance(value, str) and _PLAIN.fullmatch(value)) else None
