"""What the API reads and how much of it at once."""

from scripts.mutants.mutant import Mutant

CURSORS = "tests/integration/test_api_cursors.py"

MUTANTS = [
    # The API
    Mutant(
        "a page of the ledger reads what came before it",
        "api/cursors.py",
        "  AND {at} <= %(at)s AND ({at}, id) < (%(at)s, %(id)s)\n",
        "  AND ({at} < %(at)s OR ({at} = %(at)s AND id < %(id)s))\n",
        (CURSORS,),
    ),
    Mutant(
        "the batch counts what the stream refused",
        "batch/history.py",
        "if (stream, key, value) not in refused",
        "if (stream, key, value) is not None",
        ("tests/integration/test_batch.py::test_what_the_stream_refused_counts_nowhere_until_it_is_replayed",),
    ),
    Mutant(
        "an export takes its place when it begins to be read",
        "api/slots.py",
        "        self._taken[shop] += 1\n",
        "        __import__('asyncio').get_running_loop().call_later(0.5, self._taken.update, [shop])\n",
        ("tests/integration/test_api_exports.py::test_sixty_exports_at_once_are_as_many_as_are_allowed",),
    ),
    Mutant(
        "one shop may take every place",
        "api/slots.py",
        "of_shop = self._taken[shop] >= self._most_of_shop",
        "of_shop = False",
        ("tests/integration/test_api_exports.py::test_one_shops_exports_leave_room_for_the_others",),
    ),
    Mutant(
        "a sort of customers that its index does not know",
        "api/customers.py",
        'sql.SQL("coalesce(recency_days, 2147483647)")',
        'sql.SQL("coalesce(recency_days, 2147483646)")',
        (CURSORS,),
    ),
]
