"""Points that somebody gives or takes: what is said of an award, and its envelope, the same whoever asks for it."""

from typing import Any, NamedTuple

from events import codec, instants, keys, topics
from events.messages import Message

TOPIC = "account/award"

#: Its reason and its source: one line, and never an address.
WORDS = r"^[^@\x00-\x1f\x7f-\x9f]{1,64}$"

#: Awards called so are balances that were brought in (imports/balances.py): the same as a regular expression.
BALANCE = "import-balance"
BALANCE_OF = "import:"
BALANCES = f"^({BALANCE}$|{BALANCE_OF})"


class Body(NamedTuple):
    """What is said of an award: `at` in microseconds, `points` below 0 where they are taken.

    Of two under one name the greater stands (tables/account.py), so that their order cannot matter.
    """

    at: int
    points: int
    reason: str
    source: str
    counts_as_earned: bool


def payload(customer_id: str | None, award_id: str, body: Body, *, voided: bool = False) -> dict[str, Any]:
    """As it stands in an envelope; without a customer, who is put there later."""
    return {
        **({} if customer_id is None else {"customer_id": customer_id}),
        "award_id": award_id,
        "at": instants.text(body.at),
        "points": body.points,
        **({"reason": body.reason} if body.reason else {}),
        "source": body.source,
        "counts_as_earned": body.counts_as_earned,
        **({"voided": True} if voided else {}),
    }


def delivery(award_id: str, said: dict[str, Any]) -> str:
    """The webhook id of a payload: what says something else is another delivery."""
    return f"award/{award_id}/{codec.digest(said)[:16]}"


def message(shop: str, customer_id: str, award_id: str, body: Body, now: int, *, voided: bool = False) -> Message:
    """What asks for the award, or (`voided`) takes it back, at `now` in microseconds."""
    said, at = payload(customer_id, award_id, body, voided=voided), instants.text(now)
    envelope = {
        "topic": TOPIC,
        "shop": shop,
        "webhook_id": delivery(award_id, said),
        "event_id": None,
        "api_version": None,
        "triggered_at": at,
        "received_at": at,
        "payload": said,
    }
    return Message(topics.REQUESTS, keys.join(shop, customer_id), codec.dumps(envelope))
