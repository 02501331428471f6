"""What files bring in: the same messages each time, from where it stopped, read as they are meant, and let go."""

from scripts.mutants.mutant import Mutant

EXPORT = "tests/unit/test_order_export.py"
CUSTOMERS = "tests/unit/test_customer_export.py"
BULK = "tests/unit/test_bulk.py"
CELLS = "tests/unit/test_cells.py"
BRINGING = "tests/integration/test_imports.py"
REDACTIONS = "tests/integration/test_import_redactions.py"
PACE = "tests/integration/test_import_pace.py"
THREE_WAYS = "tests/property/test_imports.py"

BALANCES = "tests/unit/test_balances.py"

MUTANTS = [
    # Balances
    Mutant(
        "a balance may be dated ahead of its import",
        "imports/balances.py",
        "return min(at, self._since)",
        "return at",
        (BALANCES,),
    ),
    Mutant(
        "an address stands in the name of a balance",
        "imports/balances.py",
        'if "@" in said:  # it would be',
        "if False:  # it would be",
        (BALANCES,),
    ),
    # The same message each time
    Mutant(
        "what is brought in again was received again",
        "books/imports.py",
        "coalesce((SELECT min(first_at) FROM imports WHERE shop = %(shop)s AND sha256 = %(sha256)s), %(now)s)",
        "%(now)s",
        (BRINGING,),
    ),
    Mutant(
        "received when it is published",
        "imports/importing.py",
        "Maker(reader, self.shop, self.currency, since)",
        "Maker(reader, self.shop, self.currency, instants.from_datetime(datetime.now(UTC)))",
        (BRINGING,),
    ),
    Mutant(
        "an export's webhook ids are of the day on which it is read",
        "imports/order_export.py",
        'f"import-csv-{self._newest:016d}-{ident}"',
        'f"import-csv-{id(found):016d}-{ident}"',
        (EXPORT,),
    ),
    Mutant(
        "of two files of one state the poorer stands",
        "imports/bulk.py",
        'f"import-jsonl-{len(payload):02d}{min(len(lines), 9999):04d}-{ident}"',
        'f"import-jsonl-{99 - len(payload):02d}{min(len(lines), 9999):04d}-{ident}"',
        (BULK,),
    ),
    Mutant(
        "a customers export beats webhooks",
        "imports/customer_export.py",
        "Item(chunk.line, CUSTOMER, 0,",
        "Item(chunk.line, CUSTOMER, self._since,",
        (CUSTOMERS,),
    ),
    Mutant(
        "what a file tells of an order beats what came later",
        "imports/bulk.py",
        'for ours, theirs in (("created_at", "createdAt"), ("updated_at", "updatedAt")):',
        'for ours, theirs in (("created_at", "createdAt"), ("updated_at", "createdAt")):',
        (BULK, THREE_WAYS),
    ),
    # From where it stopped
    Mutant(
        "an import that was broken off begins anew",
        "imports/importing.py",
        "making.batches(maker.reader, self.batch, tally.position)",
        "making.batches(maker.reader, self.batch, 0)",
        (BRINGING,),
    ),
    Mutant(
        "rejected lines are no part of the position",
        "imports/importing.py",
        "        self.position += len(batch)\n",
        "        self.position += sum(not isinstance(each, Problem) for each in batch)\n",
        (BRINGING,),
    ),
    Mutant(
        "two may bring one content in",
        "books/imports.py",
        "    ours = row is not None and bool(row[0])\n",
        "    ours = row is not None\n",
        (BRINGING,),
    ),
    Mutant(
        "the lock is kept when the import is over",
        "books/imports.py",
        "                await connection.execute(_UNLOCK, (shop, sha256))\n",
        "                pass\n",
        (BRINGING,),
    ),
    Mutant(
        "no batch is due after an import",
        "imports/importing.py",
        "batch_due=self.batch_due and tally.position > 0",
        "batch_due=False",
        (BRINGING,),
    ),
    # What a cell says
    Mutant(
        "the second order under one id stands too",
        "imports/bulk.py",
        "                if before != number:\n",
        "                if before > number:\n",
        (BULK,),
    ),
    Mutant(
        "of two orders under one id in an export nobody says anything",
        "imports/order_export.py",
        "            elif before[1] != alike:\n",
        "            elif before[1] == ():\n",
        (EXPORT,),
    ),
    Mutant(
        "a currency that is not the shop's comes in",
        "imports/judging.py",
        "orders.terms(item.topic, small, currency)[0]",
        'orders.terms(item.topic, small, small.get("currency") or currency)[0]',
        (BULK, EXPORT),
    ),
    Mutant(
        "half a last line is taken for an order",
        "imports/bulk.py",
        '            if not lines[-1].endswith(b"\\n") and not _whole(lines[-1]):\n',
        "            if not lines[-1]:\n",
        (BULK,),
    ),
    Mutant(
        "the order before half a line comes in as it is",
        "imports/bulk.py",
        "                if held is not None and len(lines) == 1:\n",
        "                if held is not None and len(lines) == 0:\n",
        (BULK,),
    ),
    Mutant(
        "half a last row is filled up",
        "imports/text.py",
        'not feed.taken[-1].endswith(("\\n", "\\r"))',
        'feed.taken[-1].endswith("nothing")',
        (EXPORT,),
    ),
    Mutant(
        "semicolons say nothing of the decimal mark",
        "imports/cells.py",
        '    return Marks(comma, dot, delimiter == ";")\n',
        "    return Marks(comma, dot, False)\n",
        (CELLS,),
    ),
    Mutant(
        "of two kinds of marks the first is the decimal one",
        "imports/cells.py",
        'plain.rindex(",") > plain.rindex(".")',
        'plain.rindex(",") < plain.rindex(".")',
        (CELLS,),
    ),
    Mutant(
        "thousands' marks stay",
        "imports/cells.py",
        "        if many or (other and not seen):\n",
        "        if other and not seen:\n",
        (CELLS,),
    ),
    Mutant(
        "an apostrophe is part of an id",
        "imports/cells.py",
        '    plain = text.strip().removeprefix("\'").strip()\n    if _ID',
        "    plain = text.strip()\n    if _ID",
        (EXPORT,),
    ),
    # What is let go
    Mutant(
        "the sink lets no file go",
        "streams/sink/store.py",
        "(imports.FORGET, exports.FORGET):\n            cursor",
        "(exports.FORGET,):\n            cursor",
        (REDACTIONS,),
    ),
    Mutant(
        "a redaction reaches what was sent before it was asked for, not before it came",
        "streams/sink/rows.py",
        "heard = received_at if self._journal else max(",
        "heard = received_at if received_at else max(",
        (REDACTIONS,),
    ),
    Mutant(
        "a redaction lets go what is sent later too",
        "books/imports.py",
        "WHERE shop = %s AND spooled_at <= %s\n",
        "WHERE shop = %s AND spooled_at <= %s + interval '1 day'\n",
        (REDACTIONS,),
    ),
    Mutant(
        "who brings a file in does not look whether it may",
        "imports/importing.py",
        "                await _still_there(connection, found)\n                made =",
        "                made =",
        (f"{REDACTIONS}::test_nothing_more_is_sent_after_the_batch_that_is_just_being",),
    ),
    Mutant(
        "who waits for a worker does not look either",
        "imports/importing.py",
        "wait():\n                    await _still_there(connection, found)\n",
        "wait():\n                    pass\n",
        (f"{REDACTIONS}::test_who_waits_for_a_worker_stops_too",),
    ),
    Mutant(
        "no process looks for files that are over",
        "imports/spool.py",
        "            if await book.spooled_since(connection, ident, locked=True) is None:\n",
        "            if await book.find(connection, ident) is None:\n",
        (REDACTIONS,),
    ),
    # At its pace
    Mutant(
        "a stall is said over and over",
        "imports/pace.py",
        "            self._said = True\n",
        "            self._said = False\n",
        (PACE,),
    ),
    Mutant(
        "a worker that goes on has not moved",
        "imports/pace.py",
        "            at = sum(progress.worker.values())\n",
        "            at = 0\n",
        (PACE,),
    ),
]
