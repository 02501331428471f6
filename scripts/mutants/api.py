"""What the API reads and how much of it at once."""

from scripts.mutants.mutant import Mutant

CURSORS = "tests/integration/test_api_cursors.py"
EXPORTED = "tests/integration/test_api_exports.py::test_many_are_opened_and_a_redaction_is_heard_meanwhile"

REDEEMED = "tests/integration/test_api_redemptions.py"
ADJUSTED = "tests/integration/test_api_adjustments.py"

MUTANTS = [
    # Adjustments
    Mutant(
        "an award's name may mean something else to another process",
        "books/awards.py",
        '        claimed = Award(award_id, _body(row), check=row["checked"])\n',
        "        claimed = Award(award_id, wanted, check=check)\n",
        (ADJUSTED,),
    ),
    Mutant(
        "an award that is claimed and stored meanwhile is not looked for anew",
        "books/awards.py",
        "        # Anew: whoever claimed it before may have seen it stored, and let go of it.\n"
        "        standing = (await stored(connection, [place])).get(place, claimed)\n",
        "        standing = claimed\n",
        (f"{ADJUSTED}::test_what_another_claims_and_sees_stored_meanwhile_stands",),
    ),
    Mutant(
        "whoever waits looks by themselves",
        "api/waiting.py",
        "self._rounds.setdefault(book, Rounds(self._pool, book.stored))",
        "Rounds(self._pool, book.stored)",
        (REDEEMED,),
    ),
    Mutant(
        "whoever waits for an award hears of it at the end of their wait",
        "api/live/hub.py",
        "await asyncio.wait_for(changed.wait(), left)",
        "await asyncio.sleep(left)",
        (ADJUSTED,),
    ),
    Mutant(
        "who was merged is given points of their own",
        "books/awards.py",
        "        if into is not None:\n            raise MergedError(into)\n",
        "",
        (ADJUSTED,),
    ),
    Mutant(
        "a redemption is found by its code as it is written alone",
        "books/redemptions.py",
        "upper(code) = upper(%(named)s)",
        "code = %(named)s",
        ("tests/integration/test_api_redemptions.py::test_a_shops_are_found_and_counted",),
    ),
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
    Mutant(
        "who was not known stands in every cell of the movement",
        "api/movement.py",
        'where = [_is(sql.Identifier(side_, "segment"), name) for side_, name in named if name is not None]',
        'where = [_is(sql.Identifier(side_, "segment"), name) for side_, name in named if name]',
        ("tests/integration/test_api_results.py::test_the_people_behind_each_number_of_the_movement",),
    ),
    Mutant(
        "all has been read that had come when only some of it is",
        "streams/sink/lag.py",
        "while self._ends and all(",
        "while self._ends and any(",
        ("tests/integration/test_lag.py",),
    ),
    Mutant(
        "a CSV's first customers are all that is read",
        "api/export_streams.py",
        "return None if await before is None else await rows()",
        "return None",
        (EXPORTED,),
    ),
    Mutant(
        "keys are read once for the whole CSV",
        "books/vault.py",
        "        wrapped = await self._wrapped(connection, shop, list(places)) if places else []\n",
        "        seen = self.__dict__.setdefault('seen', {})\n"
        "        wrapped = seen.setdefault(shop, await self._wrapped(connection, shop, list(places)))\n",
        (EXPORTED,),
    ),
    Mutant(
        "nobody is the same person as somebody else in a CSV",
        "books/contacts.py",
        "    asked = await persons.followed(connection, shop, rows.customer_ids)\n",
        "    asked: set[str] = set()\n",
        ("tests/integration/test_persons.py::test_consent_follows_the_person",),
    ),
    Mutant(
        "a cell with a line feed stands without quotes",
        "api/csv_cells.py",
        """r'[",\\r\\n]'""",
        """r'[",\\r]'""",
        ("tests/property/test_csv.py",),
    ),
    Mutant(
        "a cell that PostgreSQL writes may run as a formula",
        "api/sql_cells.py",
        '"=+-@',
        '"=+@',
        ("tests/property/test_sql_cells.py",),
    ),
    Mutant(
        "what other processes open is a part of it",
        "books/opening.py",
        "for first in range(0, number, size)",
        "for first in range(0, size, size)",
        (EXPORTED,),
    ),
]
