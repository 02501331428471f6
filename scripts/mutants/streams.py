"""What leaves and when, what moves, what is stored; the batch's runs beside it."""

from scripts.mutants.mutant import GOLDEN, ORDER_FREE, POINTS, Mutant

EMISSION = "tests/unit/test_emission.py"
GUARD = "tests/unit/test_guard.py"
SEQUENCE = "tests/unit/test_sequence.py"
STATE = "tests/unit/test_table_state.py"
STORED = "tests/unit/test_stored.py"
KEYS = "tests/unit/test_keys.py"
STANDINGS = "tests/property/test_standings.py"
REFUSALS = "tests/unit/test_refusals.py"
BOUNDS = "tests/unit/test_records.py"
LEDGER = "tests/unit/test_ledger.py"
PLAIN = "tests/property/test_plain.py"
WRONG = "tests/unit/test_wrong_input.py"

EMIT_FACTS = """        self._states[key] = state = order_fold.apply(state, webhook, currency)
        for fact in order_fold.facts(webhook.shop, order_id, currency, state, shop.policies):
"""
ADVANCE = """            if flight.pending:
                break
"""

AWARDS = "tests/integration/test_sink_store.py"

MUTANTS = [
    # Awards
    Mutant(
        "the last body of an award that comes stands",
        "streams/sink/store.py",
        "{name} = CASE WHEN {_GREATER} THEN excluded.{name} ELSE t.{name} END",
        "{name} = excluded.{name}",
        (AWARDS,),
    ),
    Mutant(
        "an award that was taken back is given anew",
        "streams/sink/store.py",
        "voided_at = greatest(t.voided_at, excluded.voided_at)",
        "voided_at = excluded.voided_at",
        (AWARDS,),
    ),
    Mutant(
        "the journal keeps an award without what it says",
        "streams/publisher.py",
        "_ENVELOPES: Final = (topics.ORDERS, topics.CUSTOMERS, topics.SHOPS, topics.REQUESTS)",
        "_ENVELOPES: Final = (topics.ORDERS, topics.CUSTOMERS, topics.SHOPS)",
        ("tests/contracts/test_publisher.py::test_the_journal_fills_what_is_known_of_a_webhook",),
    ),
    # What is taken for our own door's
    Mutant("a name may run over its quote", "events/plain.py", "form.replace(signs, fewer)", "form", (PLAIN,)),
    Mutant("every year has a 29th of February", "events/plain.py", "2[0-8])", "2[0-9])", (PLAIN,)),
    Mutant(
        "an integer of as many digits as its bound is within it",
        "events/plain.py",
        "else most)) - 1",
        "else most))",
        (PLAIN,),
    ),
    Mutant("a list may end in a comma", "events/plain.py", r"(?:,(?!\])|(?=\]))", r"(?:,|(?=\]))", (PLAIN,)),
    Mutant("a webhook's id has any length", "events/plain.py", "]{1,128})", "]*)", (PLAIN,)),
    Mutant("any line has a price_set", "events/plain.py", ' if name != "price_set"', "", (PLAIN,)),
    Mutant("a line may say nothing", "events/plain.py", r"(?:(?!\{{\}})", "(?:", (PLAIN,)),
    Mutant(
        "an order may be cancelled at no time",
        "events/plain.py",
        ", **{name: _value(name, known.fields[name]) for name in known.needs}",
        "",
        (PLAIN,),
    ),
    Mutant(
        "of a whole customer's deletion each field alone is looked at",
        "events/plain.py",
        "known.only is None and ",
        "",
        (PLAIN,),
    ),
    Mutant(
        "what we wrote is kept with any received_at",
        "events/envelopes.py",
        "        if instants.believed(at, timestamp) == at:\n",
        "        if at:\n",
        (PLAIN,),
    ),
    # What leaves, and when
    Mutant(
        "no re-emission: a duplicate emits nothing",
        "tables/chunks.py",
        EMIT_FACTS,
        """        before = state
        self._states[key] = state = order_fold.apply(state, webhook, currency)
        told = order_fold.facts(webhook.shop, order_id, currency, state, shop.policies)
        for fact in [] if state == before else told:
""",
        (EMISSION,),
    ),
    Mutant(
        "the customers an order has left are told nothing",
        "tables/orders.py",
        "for fact in told]",
        'for fact in told if fact["customer_id"] == owner]',
        (ORDER_FREE, GOLDEN),
    ),
    Mutant(
        "a key on a wrong partition is folded there", "tables/chunks.py", "if received.key == raw and", "if", (WRONG,)
    ),
    Mutant(
        "writes leave before their outputs are in",
        "streams/worker/guard.py",
        ADVANCE,
        "",
        (GUARD,),
    ),
    Mutant(
        "writes leave at once, without waiting for outputs",
        "streams/worker/guard.py",
        """        if not outputs:
            self._advance()
""",
        "        self._keep(flight)\n",
        (GUARD,),
    ),
    Mutant(
        "chunks write out of order", "streams/worker/guard.py", ADVANCE, ADVANCE.replace("break", "continue"), (GUARD,)
    ),
    Mutant(
        "a position moves before its writes are in",
        "streams/worker/guard.py",
        "while self._flights and self._flights[0].left and not self._flights[0].pending:",
        "while self._flights and self._flights[0].left:",
        (GUARD,),
    ),
    Mutant(
        "a failed delivery is only logged",
        "streams/worker/guard.py",
        """            if error is not None:
                self._from_thread(self._fail, DeliveryFailed(f"{message.topic()}""",
        """            if error is not None and error.str() == "nothing":
                self._from_thread(self._fail, DeliveryFailed(f"{message.topic()}""",
        (GUARD,),
    ),
    Mutant(
        "a piece is folded though the one before it never came",
        "streams/worker/sequence.py",
        "if piece.begins == place.fold:",
        "if piece.begins >= place.fold:",
        (SEQUENCE, ORDER_FREE),
    ),
    Mutant(
        "a piece of before the partitions moved is folded",
        "streams/worker/sequence.py",
        "if place is None or piece.run != place.run:",
        "if place is None:",
        (SEQUENCE,),
    ),
    Mutant(
        "what is fetched counts as folded",
        "streams/worker/sequence.py",
        "place.run, place.fetch = next(self._runs), place.fold\n        return False",
        "return False",
        (SEQUENCE,),
    ),
    Mutant(
        "a former owner's records count",
        "tables/state.py",
        "        if token < self.claim:\n            self.strays.add(name)\n            return\n",
        "",
        (STATE,),
    ),
    Mutant(
        "nobody writes over a former owner's records",
        "tables/state.py",
        "            self.strays.add(name)\n",
        "",
        (STATE,),
    ),
    # Partitions, the sink, wrong input
    Mutant(
        "where a chunk's keys belong is worked out in reverse",
        "events/keys.py",
        "zip(several, ((_m",
        "zip(several[::-1], ((_m",
        (KEYS,),
    ),
    Mutant("another seed of the partitioner", "events/keys.py", "0x9747B28C", "0x9747B28D", (KEYS,)),
    Mutant(
        "librdkafka's default partitioner",
        "runtime/kafka.py",
        '"partitioner": "murmur2_random"',
        '"partitioner": "consistent_random"',
        (KEYS,),
    ),
    Mutant(
        "the sink takes an equal revision again",
        "streams/sink/ledger.py",
        'record["revision"] <= before.revision',
        'record["revision"] < before.revision',
        (LEDGER,),
    ),
    Mutant(
        "the sink posts totals for deltas",
        "streams/sink/ledger.py",
        'delta = record["total"] - (before.total if before is not None else 0)',
        'delta = record["total"]',
        (LEDGER,),
    ),
    Mutant(
        "a dead letter repeats any key",
        "events/letters.py",
        "if not _KEY.fullmatch(key):",
        "if not key:",
        (WRONG,),
    ),
    Mutant(
        "a dead letter repeats a whole payload",
        "events/letters.py",
        'found["payload"] = envelopes.checked(',
        "envelopes.checked(",
        (WRONG,),
    ),
    Mutant(
        "the calendar's last year is taken",
        "events/instants.py",
        "if us > LATEST:",
        "if us < 0:",
        (WRONG,),
    ),
    Mutant(
        "an unknown status is a dead letter",
        "events/orders.py",
        "if status is not None and not isinstance(status, str):",
        "if status is not None and status not in PAID_ONCE:",
        (WRONG, GOLDEN),
    ),
    # The history of standings
    Mutant(
        "a replay adds the changes of an instant again",
        "streams/sink/standings.py",
        "return next((at for at in range(first, len(steps)) if steps[at].standing == row.standing), None)",
        "return len(steps) - 1 if steps[-1].standing == row.standing else None",
        (STANDINGS,),
    ),
    Mutant(
        "two changes of a customer fall on one instant",
        "streams/sink/standings.py",
        "max(at, last.at + 1), last.standing",
        "at, last.standing",
        (STANDINGS,),
    ),
    Mutant(
        "a change within a chunk has no row",
        "tables/chunks.py",
        "            self._emit_row(ident)  # at once: of rows the history is made\n",
        "",
        (EMISSION,),
    ),
    Mutant(
        "points may leave 64 bits",
        "events/programs.py",
        "min(net * numerator // denominator, money.MAX_POINTS)",
        "net * numerator // denominator",
        (POINTS,),
    ),
    # One shop stops nobody
    Mutant(
        "a row too large for its index is taken for a database that is away",
        "streams/sink/refusals.py",
        '_AWAY: Final = ("08", "53", "57P")',
        '_AWAY: Final = ("08", "53", "54", "57P")',
        (REFUSALS,),
    ),
    Mutant(
        "a text may hold a NUL",
        "events/fields.py",
        r"[^\x00-",
        r"[^\x01-",
        (BOUNDS,),
    ),
    # Tables in files
    Mutant(
        "files know what has not left",
        "streams/worker/stored.py",
        "        if self.token is not None:\n            super().apply(writes)\n        elif self._files",
        "        if self._files",
        (STORED,),
    ),
    Mutant(
        "what waits is forgotten with what was delivered of its key",
        "streams/worker/stored.py",
        "            if waiting > 1:",
        "            if waiting > 2:",
        (STORED,),
    ),
    Mutant(
        "nobody looks behind a gap again",
        "streams/worker/stored.py",
        "        if not self.suspect:",
        "        if True:",
        (STORED,),
    ),
    Mutant(
        "another topic of that name is gone on with",
        "streams/worker/stored.py",
        "            if of == log:",
        "            if of:",
        (STORED,),
    ),
    # A batch run
    Mutant(
        "a run passes by whoever is named after it",
        "tables/chunks.py",
        '        state["now"] = max(state["now"], self._as_of(ident[0]))\n',
        "",
        (EMISSION,),
    ),
    Mutant(
        "a run is forgotten with its chunk",
        "tables/chunks.py",
        "            if as_of and self._table.get(_run_key(shop)) != packing.pack([as_of])",
        "            if as_of < 0",
        (EMISSION,),
    ),
    Mutant(
        "an older run that comes late is taken for the newest",
        "tables/chunks.py",
        "= max(as_of, self._as_of(shop))",
        "= as_of",
        (EMISSION,),
    ),
    Mutant(
        "a run asks none of those who came since it was last asked",
        "tables/state.py",
        "        if self._shops is not None and key not in self:",
        "        if self._shops is None and key not in self:",
        ("tests/unit/test_table_state.py",),
    ),
]
