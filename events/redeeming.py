"""Rewards that are redeemed: what is said of a redemption, and its envelopes, the same whoever says it."""

from typing import Any, Final, Literal, NamedTuple

from events import codec, instants, keys, names, topics
from events.messages import Message

#: The code of a redemption, and a reason: one line, and never an address.
WORDS: Final = r"^[^@\x00-\x1f\x7f-\x9f]{1,64}$"

#: Why a redemption is cancelled of which nobody made use in time.
UNUSED: Final = "unused"


class Wanted(NamedTuple):
    """A reward as it is asked for.

    `cost` in points, as the customer was shown it; `program_at` when the program was announced under which it was
    offered (microseconds; None: not known). `forced_at`: it was given already, then, and is only told of.
    """

    reward_id: str
    cost: int
    program_at: int | None = None
    forced_at: int | None = None


class Outcome(NamedTuple):
    """What became of handing a redemption's code out. The highest `attempt` holds.

    `issued`: under `code` until `valid_until` (microseconds), each None for none. `failed`: the points return, and
    `reason` says why; a `code` that may be out all the same is then used by an order that bears it.
    """

    attempt: int
    state: Literal["issued", "failed"]
    code: str | None = None
    valid_until: int | None = None
    reason: str | None = None


def redemption(shop: str, customer_id: str, request_id: str, wanted: Wanted, now: int) -> Message:
    """What asks for a reward, at `now` in microseconds."""
    said = {
        "customer_id": customer_id,
        "request_id": request_id,
        "reward_id": wanted.reward_id,
        "cost": wanted.cost,
        **_some(program_at=_text(wanted.program_at)),
    }
    if wanted.forced_at is None:
        return _message("account/redeem", "redeem", shop, said, now, now)
    return _message("account/redeem_forced", "forced", shop, said, wanted.forced_at, now)


def deduction(shop: str, customer_id: str, name: str, points: int, purpose: str, source: str, now: int) -> Message:
    """What asks to take so many points (above 0) if they are there, at `now` in microseconds: decided as a redemption
    is, and cancelled by names.CHECKED and its name."""
    said = {
        "customer_id": customer_id,
        "request_id": names.CHECKED + name,
        "cost": points,
        **_some(purpose=purpose),
        "source": source,
    }
    return _message("account/deduct", "deduct", shop, said, now, now)


def cancellation(shop: str, customer_id: str, request_id: str, reason: str | None, now: int) -> Message:
    """What cancels a redemption, at `now` in microseconds."""
    said = {"customer_id": customer_id, "request_id": request_id, **_some(reason=reason)}
    return _message("account/cancel", "cancel", shop, said, now, now)


def fulfilment(shop: str, customer_id: str, request_id: str, outcome: Outcome, now: int) -> Message:
    """What tells the outcome of handing a redemption's code out, at `now` in microseconds."""
    said = {
        "customer_id": customer_id,
        "request_id": request_id,
        "attempt": outcome.attempt,
        "state": outcome.state,
        **_some(code=outcome.code, valid_until=_text(outcome.valid_until), reason=outcome.reason),
    }
    return _message("account/fulfilment", "fulfilment", shop, said, now, now)


def _message(topic: str, name: str, shop: str, said: dict[str, Any], at: int, now: int) -> Message:
    envelope = {
        "topic": topic,
        "shop": shop,
        # What says something else is another delivery.
        "webhook_id": f"{name}/{said['request_id']}/{codec.digest(said)[:16]}",
        "event_id": None,
        "api_version": None,
        "triggered_at": instants.text(at),
        "received_at": instants.text(now),
        "payload": said,
    }
    return Message(topics.REQUESTS, keys.join(shop, said["customer_id"]), codec.dumps(envelope))


def _some(**said: str | None) -> dict[str, str]:
    return {name: value for name, value in said.items() if value}


def _text(us: int | None) -> str | None:
    return None if us is None else instants.text(us)
