"""What the customers of a shop that never was do with their points: seeded, and dated as its webhooks are. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from random import Random
from typing import Any, Final, NamedTuple

from cli.shop.deliveries import Outgoing
from events import awards, redeeming
from events.awards import Body
from events.instants import DAY, HOUR, MINUTE
from events.messages import Message
from events.redeeming import Outcome, Wanted
from fulfilment import codes

#: What the shop's program says of points beyond its rule: they can be spent for half a year, and on what.
EXPIRY: Final = [{"life_days": 180}]
REWARDS: Final[list[dict[str, Any]]] = [
    {
        "reward_id": "free-shipping",
        "cost": 120,
        "kind": "shipping",
        "name": "Free shipping",
        "names": {"de": "Versand umsonst"},
        "valid_days": 30,
    },
    {
        "reward_id": "five-off",
        "cost": 200,
        "kind": "amount",
        "value": "5",
        "name": "$5 off",
        "names": {"de": "5 $ Rabatt"},
        "valid_days": 60,
    },
    {
        "reward_id": "fifteen-off",
        "cost": 500,
        "kind": "amount",
        "value": "15",
        "min_order": "50",
        "name": "$15 off",
        "names": {"de": "15 $ Rabatt"},
        "valid_days": 60,
    },
    {
        "reward_id": "a-fifth",
        "cost": 800,
        "kind": "percent",
        "value": "20",
        "limit": {"count": 1, "days": 180},
        "name": "20 % off",
        "names": {"de": "20 % Rabatt"},
        "valid_days": 90,
    },
]

#: How long before its end (microseconds) the shop's customers have redeemed: all that was sent until then came before.
STAGES: Final = (90 * DAY, 30 * DAY, 4 * DAY, 0)

#: Of a hundred customers who can: so many redeem at a stage.
_REDEEM: Final = 12
_CANCELLED, _FAILED, _LEFT = 0.08, 0.03, 0.2

_REASONS = ("birthday", "a late parcel", "a review", "welcome back")


class Wish(NamedTuple):
    """A reward that a customer asks for: `at` in microseconds."""

    customer_id: str
    request_id: str
    reward_id: str
    cost: int
    at: int


def wishes(balances: Mapping[str, int], stage: int, at: int, seed: int) -> list[Wish]:
    """What is asked for within the hour before `at` by customers who have these points, and by one who has too few."""
    random = Random(f"{seed}/wishes/{stage}")  # noqa: S311 - the same seed must give the same shop
    cheapest = min(reward["cost"] for reward in REWARDS)
    rich = sorted(whose for whose, points in balances.items() if points >= cheapest)
    poor = sorted(whose for whose, points in balances.items() if 0 < points < cheapest)
    found = []
    for whose in [*random.sample(rich, -(-len(rich) * _REDEEM // 100)), *random.sample(poor, min(1, len(poor)))]:
        affordable = [each for each in REWARDS if each["cost"] <= balances[whose]] or REWARDS[:1]
        reward = random.choice(affordable)
        name = f"shop-{stage}-{whose}"
        found.append(Wish(whose, name, reward["reward_id"], reward["cost"], at - random.randrange(HOUR)))
    return sorted(found, key=lambda wish: wish.at)


def asked(shop: str, found: Sequence[Wish]) -> list[Message]:
    """The requests."""
    return [
        redeeming.redemption(shop, wish.customer_id, wish.request_id, Wanted(wish.reward_id, wish.cost), wish.at)
        for wish in found
    ]


def code_of(request_id: str) -> str:
    """The code of a request; no shop's key is needed where anybody may guess it."""
    return codes.code(sha256(request_id.encode()).digest())


def answered(shop: str, accepted: Sequence[Wish], stage: int, seed: int) -> tuple[list[Message], dict[str, str]]:
    """What becomes of wishes that were granted, and the codes that are out, by customer: most are handed out, a few are
    cancelled or cannot be had, and of the last stage some wait."""
    random = Random(f"{seed}/answers/{stage}")  # noqa: S311 - the same seed must give the same shop
    days = {reward["reward_id"]: reward["valid_days"] for reward in REWARDS}
    said, out = [], {}
    for number, wish in enumerate(accepted):
        chance, place = random.random(), (shop, wish.customer_id, wish.request_id)
        if number == 0 or chance < _CANCELLED:  # one at least
            said.append(redeeming.cancellation(*place, "changed their mind", wish.at + 10 * MINUTE))
        elif chance < _CANCELLED + _FAILED:
            said.append(redeeming.fulfilment(*place, Outcome(1, "failed", reason="out of stock"), wish.at + MINUTE))
        elif stage < len(STAGES) - 1 or chance > _CANCELLED + _FAILED + _LEFT:
            code, until = code_of(wish.request_id), wish.at + days[wish.reward_id] * DAY
            said.append(redeeming.fulfilment(*place, Outcome(1, "issued", code, until), wish.at + MINUTE))
            out[wish.customer_id] = code
    return said, out


def by_hand(shop: str, balances: Mapping[str, int], stage: int, at: int, seed: int) -> list[Message]:
    """Points given to some for a reason, taken from one, and taken back from one who should not have had them."""
    random = Random(f"{seed}/by-hand/{stage}")  # noqa: S311 - the same seed must give the same shop
    some = sorted(whose for whose, points in balances.items() if points > 0)
    said = []
    for number, whose in enumerate(random.sample(some, min(8, len(some)))):
        name, points = f"desk-{stage}-{number}", random.choice((25, 50, 100))
        body = Body(at - number * HOUR, points, random.choice(_REASONS), "dashboard", False)
        if number == 0:
            body = body._replace(points=-points, reason="counted twice")
        said.append(awards.message(shop, whose, name, body, body.at))
        if number == 1:
            said.append(awards.message(shop, whose, name, body, body.at + MINUTE, voided=True))
    return said


def stages(store: Iterable[Outgoing], until: int) -> Iterator[list[Outgoing]]:
    """The deliveries up to each stage, in the order in which they arrive."""
    left, found = list(store), []
    for before in STAGES[:-1]:
        at = next((n for n, each in enumerate(left) if each.triggered_at > until - before), len(left))
        found, left = left[:at], left[at:]
        yield found
    yield left


def with_codes(deliveries: Sequence[Outgoing], out: Mapping[str, str]) -> None:
    """Puts each customer's code on the first of their orders among the deliveries, in every copy of it."""
    bears: dict[int, str] = {}
    waiting = dict(out)
    for each in deliveries:
        buyer = (each.payload.get("customer") or {}).get("id")
        if each.topic == "orders/create" and (code := waiting.pop(str(buyer), None)) is not None:
            bears[each.payload["id"]] = code
    for each in deliveries:
        if each.topic.startswith("orders/") and (code := bears.get(each.payload["id"])) is not None:
            each.payload["discount_codes"] = [{"code": code, "amount": "0.00", "type": "fixed_amount"}]
