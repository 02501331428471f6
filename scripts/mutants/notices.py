"""Whom integrators' messages go to, how often, and of what they tell; and how often the API may be asked."""

from scripts.mutants.mutant import Mutant

TESTS = "tests/integration/test_notices.py"
RATES = "tests/unit/test_rates.py"

MUTANTS = [
    Mutant(
        "a notice goes to any address",
        "runtime/addresses.py",
        "    if not is_public(str(address[0])):\n",
        "    if not address:\n",
        (f"{TESTS}::test_nothing_goes_to_an_address_of_ours",),
    ),
    Mutant(
        "a notice follows a redirect",
        "notices/sending.py",
        "allow_redirects=False",
        "allow_redirects=True",
        (f"{TESTS}::test_a_redirect_is_not_followed",),
    ),
    Mutant(
        "a notice goes by NAT64 to any address",
        "runtime/addresses.py",
        "    if address in _NAT64:\n",
        "    if not address:\n",
        ("tests/unit/test_notices.py::test_an_address_that_is_not",),
    ),
    Mutant(
        "a rebuild's notices are told where its steps are others",
        "books/notices.py",
        "AND s.at <= m.at + interval",
        "AND s.at < m.at - interval",
        (f"{TESTS}::test_a_rebuild_tells_nothing_again_whatever_its_steps_are",),
    ),
    Mutant(
        "the past is told in notices",
        "books/notices.py",
        'f"{column} >= greatest(e.created_at, now()',
        'f"{column} >= least(e.created_at, now()',
        (f"{TESTS}::test_what_happened_before_the_endpoint_and_long_ago_is_no_news",),
    ),
    Mutant(
        "two processes send the notices of one endpoint",
        "books/notices.py",
        "WHERE coalesce(held_until <= clock_timestamp(), true) AND ",
        "WHERE ",
        (f"{TESTS}::test_two_processes_share_the_work_and_send_each_message_once",),
    ),
    Mutant(
        "an endpoint of notices never rests",
        "runtime/waits.py",
        "    if failures < FAILURES:\n",
        "    if failures < 10 * FAILURES:\n",
        (f"{TESTS}::test_an_endpoint_that_keeps_failing_rests_and_comes_back",),
    ),
    Mutant(
        "a notice that nobody tried is dead",
        "books/notices.py",
        "AND (attempts > 0 OR %s)",
        "AND (attempts >= 0 OR %s)",
        (f"{TESTS}::test_what_waited_while_nobody_sent_is_not_dead",),
    ),
    Mutant(
        "a replayed notice has had its three days",
        "books/notices.py",
        "SET status = 'waiting', since = clock_timestamp(),",
        "SET status = 'waiting',",
        (f"{TESTS}::test_a_replay_is_tried_for_three_days_more",),
    ),
    Mutant(
        "a refused request takes from the quota",
        "api/rates.py",
        "        if over > 0:\n",
        "        if over > 0:\n            self._whole_at[who] = whole_at + self._one\n",
        (RATES,),
    ),
    Mutant(
        "what is known of who asks for their quota grows for ever",
        "api/rates.py",
        "if len(self._whole_at) > self._most:",
        "if len(self._whole_at) > 2 * self._most:",
        (RATES,),
    ),
    Mutant(
        "who asks to be left alone is told on",
        "books/notices.py",
        "(broken, None if row is None else asked_for)",
        "(broken,)",
        (f"{TESTS}::test_who_asks_to_be_left_alone_is",),
    ),
]
