"""What the demo's customers do with their points: the same each time, no more than they have, and told in its time."""

from cli.shop import account, store_maker
from cli.shop.account import STAGES
from events import codec
from events.instants import DAY, HOUR
from events.programs import Program

SHOP = "demo.myshopify.com"
UNTIL = 1_795_000_000_000_000
BALANCES = {str(number): 20 * number for number in range(100)}


def test_the_program_is_one() -> None:
    said = {"shop": SHOP, "currency": "USD", "zone": "America/New_York"}
    program = Program.model_validate({**said, "expiry": account.EXPIRY, "rewards": account.REWARDS})
    assert [each.reward_id for each in program.rewards] == sorted(each["reward_id"] for each in account.REWARDS)


def test_the_stages_are_the_whole_store_in_order() -> None:
    def store() -> list[object]:
        return list(store_maker.make_store(UNTIL, customers=200, webhooks=2000))

    found = list(account.stages(store_maker.make_store(UNTIL, customers=200, webhooks=2000), UNTIL))
    assert len(found) == len(STAGES)
    assert [each for stage in found for each in stage] == store()
    for stage, before in zip(found, STAGES, strict=True):
        assert stage
        assert all(each.triggered_at <= UNTIL - before for each in stage)


def test_what_is_asked_for_can_be_paid_but_once() -> None:
    wanted = account.wishes(BALANCES, 0, UNTIL, 1)
    assert wanted == account.wishes(BALANCES, 0, UNTIL, 1) != account.wishes(BALANCES, 0, UNTIL, 2)
    short = [each for each in wanted if each.cost > BALANCES[each.customer_id]]
    assert len(short) == 1
    assert len(wanted) > 10
    assert all(UNTIL - HOUR <= each.at <= UNTIL for each in wanted)
    assert len({each.customer_id for each in wanted}) == len(wanted)


def test_somebody_cancels_and_the_last_stage_leaves_some_waiting() -> None:
    wanted = account.wishes(BALANCES, 0, UNTIL, 1)
    for stage in range(len(STAGES)):
        said, out = account.answered(SHOP, wanted, stage, 1)
        told = [codec.loads(each.value)["topic"] for each in said]
        assert "account/cancel" in told
        assert len(said) == len(wanted) if stage < len(STAGES) - 1 else len(out) < len(said) < len(wanted) + 1
        assert set(out.values()) <= {account.code_of(each.request_id) for each in wanted}


def test_points_come_by_hand_and_one_is_taken_back() -> None:
    said = [codec.loads(each.value)["payload"] for each in account.by_hand(SHOP, BALANCES, 0, UNTIL, 1)]
    assert sum(each.get("voided", False) for each in said) == 1
    assert sum(each["points"] < 0 for each in said) == 1
    assert "0" not in {each["customer_id"] for each in said}, "who has nothing, nothing is taken from"
    assert account.by_hand(SHOP, {}, 0, UNTIL, 1) == []


def test_a_code_stands_on_every_copy_of_one_order() -> None:
    deliveries = list(store_maker.make_store(UNTIL, customers=5, webhooks=200))
    buyer = next(each.payload["customer"]["id"] for each in deliveries if each.topic == "orders/create")
    account.with_codes(deliveries, {str(buyer): "LN-A", "1": "LN-B"})
    bearing = [each for each in deliveries if each.payload.get("discount_codes")]
    assert {each.payload["id"] for each in bearing} == {bearing[0].payload["id"]}
    assert all(each.payload["discount_codes"][0]["code"] == "LN-A" for each in bearing)
    copies = [
        each
        for each in deliveries
        if each.topic.startswith("orders/") and each.payload["id"] == bearing[0].payload["id"]
    ]
    assert len(copies) == len(bearing)
    assert all(each.triggered_at > UNTIL - 366 * DAY for each in bearing)
