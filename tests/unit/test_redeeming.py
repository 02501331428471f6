"""What is said of a redemption: envelopes in the form in which we write them, read as they were said."""

from typing import Any

import pytest

from events import asked, codec, envelopes, plain, redeeming, topics
from events.messages import Message
from events.redeeming import Outcome, Wanted

SHOP = "nest.myshopify.com"
MAIL = "mail-" + "0" * 32
NOW = 1_795_253_400_000_000


def read(message: Message) -> Any:
    assert message.topic == topics.REQUESTS
    assert plain.look(message.value.decode(), message.topic) is not None
    return asked.record(envelopes.read(message.value, message.topic))


@pytest.mark.parametrize("customer", ["7", MAIL])
@pytest.mark.parametrize("program_at", [None, NOW - 9])
@pytest.mark.parametrize("forced_at", [None, NOW - 5])
def test_a_reward_that_is_asked_for(customer: str, program_at: int | None, forced_at: int | None) -> None:
    message = redeeming.redemption(SHOP, customer, "till:1", Wanted("ten-off", 500, program_at, forced_at), NOW)
    assert message.key == f"{SHOP}/{customer}"
    assert read(message) == {
        "type": "account.redeem",
        "shop": SHOP,
        "customer_id": customer,
        "now": forced_at or NOW,
        "request_id": "till:1",
        "reward_id": "ten-off",
        "cost": 500,
        "forced": forced_at is not None,
        "program": program_at or 0,
    }


@pytest.mark.parametrize("reason", [None, "Grüße"])
def test_a_cancellation(reason: str | None) -> None:
    assert read(redeeming.cancellation(SHOP, "7", "a", reason, NOW)) == {
        "type": "account.cancel",
        "shop": SHOP,
        "customer_id": "7",
        "now": NOW,
        "request_id": "a",
        "reason": reason or "",
    }


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(1, "issued", "LN-ABC 1/2", NOW + 9),
        Outcome(2, "issued"),
        Outcome(3, "failed", "LN-ABC", None, "nobody answered"),
    ],
)
def test_an_outcome(outcome: Outcome) -> None:
    assert read(redeeming.fulfilment(SHOP, "7", "a", outcome, NOW)) == {
        "type": "account.fulfilment",
        "shop": SHOP,
        "customer_id": "7",
        "now": NOW,
        "request_id": "a",
        **outcome._asdict(),
        "reason": outcome.reason or "",
    }


def test_a_delivery_is_called_by_what_it_says() -> None:
    def name(message: Message) -> str:
        said: str = codec.loads(message.value)["webhook_id"]
        return said

    wanted = Wanted("ten-off", 500)
    first = redeeming.redemption(SHOP, "7", "x" * 64, wanted, NOW)
    assert name(first) == name(redeeming.redemption(SHOP, "7", "x" * 64, wanted, NOW + 1))
    others = [
        redeeming.redemption(SHOP, "8", "x" * 64, wanted, NOW),
        redeeming.redemption(SHOP, "7", "x" * 64, wanted._replace(cost=501), NOW),
        redeeming.redemption(SHOP, "7", "x" * 64, wanted._replace(forced_at=NOW), NOW),
        redeeming.cancellation(SHOP, "7", "x" * 64, None, NOW),
        redeeming.fulfilment(SHOP, "7", "x" * 64, Outcome(1, "issued"), NOW),
        redeeming.fulfilment(SHOP, "7", "x" * 64, Outcome(2, "issued"), NOW),
    ]
    assert len({name(each) for each in (first, *others)}) == 7
