"""Discounts of redemptions: one for each, for its customer alone, told, and no store asked too often."""

from scripts.mutants.mutant import Mutant

TESTS = "tests/integration/test_fulfilment.py"
UNIT = "tests/unit/test_fulfilment.py"
BUSY = f"{TESTS}::test_a_busy_store_is_waited_for_and_it_counts_as_no_failure"
KILLED = f"{TESTS}::test_one_killed_between_making_and_telling_makes_no_second_code"

MUTANTS = [
    Mutant(
        "a discount of somebody else's customer counts as ours",
        "fulfilment/discounts.py",
        " and customers == [customer(customer_id)])",
        ")",
        (f"{TESTS}::test_a_code_of_ours_that_is_there_counts_as_made_and_somebody_elses_does_not",),
    ),
    Mutant(
        "a code that is taken fails, though it is ours",
        "fulfilment/making.py",
        "        return _issued(node) if ours else ",
        "        return _issued(node) if not ours else ",
        (KILLED,),
    ),
    Mutant(
        "who may not look says that there is no discount",
        "fulfilment/making.py",
        '            return Result("again", found.why) if found.kind == "failed" else found\n',
        "            return found\n",
        (f"{TESTS}::test_who_may_not_look_does_not_say_that_it_is_not_there",),
    ),
    Mutant(
        "every piece of a product is free",
        "fulfilment/discounts.py",
        '    if reward.kind == "percent":\n',
        '    if reward.kind in ("percent", "product"):\n',
        (f"{UNIT}::test_each_kind_asks_for_its_own",),
    ),
    Mutant(
        "credit is given, perhaps twice",
        "fulfilment/discounts.py",
        '"shipping", "product"})',
        '"shipping", "product", "store_credit"})',
        (f"{TESTS}::test_each_kind_is_made_and_what_cannot_be_fails_at_once",),
    ),
    Mutant(
        "a busy store counts as a failure",
        "fulfilment/admin.py",
        '    "THROTTLED": "busy",\n',
        '    "THROTTLED": "failed",\n',
        (BUSY,),
    ),
    Mutant(
        "a store's points are not waited for",
        "fulfilment/main.py",
        "monotonic() + maker.pause.total_seconds()",
        "monotonic()",
        (f"{TESTS}::test_questions_come_no_faster_than_the_points_of_the_store",),
    ),
    Mutant(
        "a store that does not let us in fails its redemptions",
        "fulfilment/admin.py",
        'Trouble("shut" if status in _SHUT else "failed"',
        'Trouble("invalid" if status in _SHUT else "failed"',
        (f"{TESTS}::test_a_store_that_does_not_let_us_in_is_left_alone_and_fails_nothing",),
    ),
    Mutant(
        "two processes make the discount of one redemption",
        "books/fulfilment.py",
        " AND coalesce(w.held_until <= clock_timestamp(), true)\nAND (w.outcome",
        "\nAND (w.outcome",
        (KILLED, f"{TESTS}::test_two_processes_share_the_work_and_ask_for_each_once"),
    ),
    Mutant(
        "an outcome is told once, whether it was heard or not",
        "fulfilment/main.py",
        "                await self._holder.untold(connection, work, _retry(work.attempt))\n",
        "                await self._holder.finish(connection, work)\n",
        (f"{TESTS}::test_a_door_that_is_away_is_told_again_and_nothing_is_made_anew",),
    ),
    Mutant(
        "what was given up is not there for sure",
        "books/fulfilment.py",
        "THEN 'gave_up' END, code = %(code)s,",
        "THEN 'gave_up' END, code = left(%(code)s, 0),",
        (f"{TESTS}::test_after_a_day_of_failures_it_is_given_up_and_may_be_there",),
    ),
    Mutant(
        "one redemption at a time is given up of a store that is gone",
        "books/fulfilment.py",
        '                await connection.execute(_GIVE_UP, {"shop": work.shop, **tried})\n',
        "",
        (f"{TESTS}::test_of_a_store_that_is_gone_all_that_waited_is_given_up",),
    ),
    Mutant(
        "a discount of somebody else's is withdrawn",
        "fulfilment/making.py",
        "        if node is None or not discounts.is_ours(node, customer_id, request_id):\n",
        "        if node is None:\n",
        (f"{TESTS}::test_what_is_not_ours_or_not_there_is_not_withdrawn",),
    ),
    Mutant(
        "what was cancelled and used all the same is withdrawn",
        "books/fulfilment.py",
        "AND r.status = CASE WHEN w.withdrawal IS NULL THEN 'reserved' ELSE 'returned' END)",
        "AND (w.withdrawal IS NOT NULL OR r.status = 'reserved'))",
        (f"{TESTS}::test_what_was_cancelled_and_is_used_all_the_same_is_not_withdrawn",),
    ),
    Mutant(
        "what fails after an attempt that nobody heard of is not there for sure",
        "fulfilment/main.py",
        '        there = issued or (work.attempt > 1 and result.why != "code_taken")\n',
        "        there = issued\n",
        (f"{TESTS}::test_what_fails_after_an_attempt_that_nobody_heard_of_may_be_there_too",),
    ),
    Mutant(
        "two customers who call their requests the same have one code",
        "books/vault.py",
        'f"{customer_id}/{request_id}".encode()',
        "request_id.encode()",
        (f"{TESTS}::test_two_customers_who_call_their_requests_the_same_have_a_code_each",),
    ),
    Mutant(
        "a token is asked for at any address",
        "fulfilment/admin.py",
        "socket_factory=None if private else public_socket,",
        "socket_factory=None,",
        (f"{TESTS}::test_to_an_address_of_ours_nothing_is_sent",),
    ),
    Mutant(
        "a forgotten shop's discounts keep their codes",
        "books/vault.py",
        ", 'fulfilment-codes')",
        ")",
        (f"{TESTS}::test_a_shop_that_is_forgotten_is_off_and_makes_other_codes_when_it_comes_back",),
    ),
]
