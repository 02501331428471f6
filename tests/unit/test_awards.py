"""An award as it is asked for: one envelope for one body, in the form in which we write it, read as it was said."""

import pytest

from events import asked, awards, codec, envelopes, plain, topics
from events.awards import Body

SHOP = "nest.myshopify.com"
MAIL = "mail-" + "0" * 32
NOW = 1_795_253_400_000_000
BODY = Body(NOW - 5, 50, "Grüße", "klaviyo", True)


@pytest.mark.parametrize("customer", ["7", MAIL])
@pytest.mark.parametrize("voided", [False, True])
@pytest.mark.parametrize("body", [BODY, BODY._replace(points=-50), BODY._replace(reason="", counts_as_earned=False)])
def test_what_is_asked_for_is_what_is_read(customer: str, voided: bool, body: Body) -> None:
    message = awards.message(SHOP, customer, "a:1", body, NOW, voided=voided)
    assert (message.topic, message.key) == (topics.REQUESTS, f"{SHOP}/{customer}")
    assert plain.look(message.value.decode(), message.topic) is not None
    record = asked.record(envelopes.read(message.value, message.topic))
    assert record == {
        "type": "account.award",
        "shop": SHOP,
        "customer_id": customer,
        "award_id": "a:1",
        "now": NOW,
        **body._asdict(),
        "voided_at": NOW if voided else 0,
    }


def test_a_delivery_is_called_by_what_it_says() -> None:
    def name(body: Body = BODY, now: int = NOW, *, voided: bool = False) -> str:
        said: str = codec.loads(awards.message(SHOP, "7", "a", body, now, voided=voided).value)["webhook_id"]
        return said

    assert name() == name(now=NOW + 1)
    assert name().startswith("award/a/")
    assert len({name(), name(voided=True), name(BODY._replace(points=51)), name(BODY._replace(at=NOW))}) == 4


def test_a_customer_whose_id_is_not_closed_is_not_taken_for_one() -> None:
    message = awards.message(SHOP, "7", "a", BODY, NOW)
    broken = message.value.decode().replace('"customer_id":"7"', '"customer_id":"7')
    assert plain.look(broken, message.topic) is None
