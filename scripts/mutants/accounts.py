"""What can be spent, what is decided of a request, and that it is archived."""

from scripts.mutants.mutant import ORDER_FREE, Mutant

PURSE = "tests/property/test_account.py"
ASKING = "tests/unit/test_asking.py"
REDEMPTIONS = "tests/property/test_redemptions.py"
SINK = "tests/integration/test_sink_redemptions.py"
TIES = "tests/property/test_batch_ties.py"
DAYS = "tests/property/test_expired.py"
STORED = "tests/integration/test_sink_store.py"

WORKED = "tests/golden/test_worked_example.py"

MUTANTS = [
    Mutant(
        "a day that came to nothing is not told as time passes it",
        "tables/expired.py",
        "if came or points != was:",
        "if points != was:",
        (DAYS,),
    ),
    Mutant(
        "a change of a day that was told is not looked for",
        "tables/expired.py",
        "self._restate(change, newest, differ)",
        "pass",
        (DAYS,),
    ),
    Mutant(
        "days are looked at again only up to the first that is right",
        "tables/expired.py",
        "if day >= change.last and self._shifted == change.shift:",
        "if points == was:",
        (DAYS,),
    ),
    Mutant(
        "the days of a zone that the shop has left stay",
        "tables/expired.py",
        'if known["zone"] == zone else None',
        "",
        (DAYS,),
    ),
    Mutant(
        "a debit between two days is passed by",
        "tables/contributions.py",
        "if line[_LAST] > after and of(min(line[_LAST], until)) - before > than:",
        "if line[_LAST] > after and of(line[_FIRST]) - before > than:",
        (DAYS,),
    ),
    Mutant(
        "a former owner of a partition has the last word on a day",
        "streams/sink/store.py",
        """        _replace("points_expired", "shop, customer_id, day") + " WHERE excluded.fence >= t.fence",
""",
        """        _replace("points_expired", "shop, customer_id, day"),
""",
        (STORED,),
    ),
    Mutant(
        "parity forgets what was left of a lot from which was spent",
        "lake/accounts.py",
        "gone.append((at_end, rest))",
        "gone.append((at_end, rest - 1))",
        (PURSE,),
    ),
    Mutant(
        "an activity at the midnight of being inactive is in time",
        "tables/account.py",
        "last = _active_before(nodes, tree, debits, min(ends, until + 1))",
        "last = _active_before(nodes, tree, debits, min(ends, until) + 1)",
        (PURSE,),
    ),
    Mutant(
        "what was lost for want of activity once is forgotten",
        "tables/account.py",
        "return max([0, *(could for _, could in _resets(nodes, tree, debits, terms, -1, at))])",
        "return max([0, *(could for _, could in _resets(nodes, tree, debits, terms, -1, at))][-1:])",
        (PURSE,),
    ),
    Mutant(
        "points that can be spent from a midnight on are lost at it",
        "tables/account.py",
        "could = contributions.sums(nodes, tree, 0, terms.spendable_until(ends - 1) + 1).points",
        "could = contributions.sums(nodes, tree, 0, terms.spendable_until(ends) + 1).points",
        (PURSE,),
    ),
    Mutant(
        "a deduction keeps points alive",
        "tables/account.py",
        "max(brought, contributions.last_before(nodes, debits, end, counting=True))",
        "max(brought, contributions.last_before(nodes, debits, end, counting=False))",
        (PURSE,),
    ),
    Mutant(
        "a redemption keeps nothing alive",
        "tables/customers.py",
        "own = [revision, number, taken, returned, int(number > 0), 1]",
        "own = [revision, number, taken, returned, 0, 1]",
        (WORKED,),
    ),
    Mutant(
        "who gave something back was never active",
        "tables/contributions.py",
        "return bool(entry[COUNTED]) or (not counting and entry[EARNED] > 0)",
        "return bool(entry[COUNTED]) or (not counting and entry[EARNED] > entry[REVERSED])",
        (PURSE, WORKED),
    ),
    Mutant(
        "a node with what was given back alone is not looked into",
        "tables/contributions.py",
        "return line[_SUMS] > 0 or (not counting and (len(line) <= _ACTS or line[_ACTS]))",
        "return line[_SUMS] > 0",
        (PURSE, "tests/property/test_history.py"),
    ),
    Mutant(
        "a late activity changes no day before its own life ends",
        "tables/expired.py",
        "first, last = home, max(shop.terms.runs_out(home), shop.terms.spendable_from(home))",
        "first = last = max(shop.terms.runs_out(home), shop.terms.spendable_from(home))",
        ("tests/property/test_expired.py",),
    ),
    Mutant(
        "the batch has who returned something inactive",
        "lake/accounts.py",
        """then.filter(pl.col("kind") != "deduction")]""",
        """then.filter((pl.col("kind") != "deduction") & (pl.col("points") != 0))]""",
        (PURSE,),
    ),
    Mutant(
        "the batch has an activity at the midnight in time",
        "lake/accounts.py",
        '(following >= pl.col("ends"))',
        '(following > pl.col("ends"))',
        (PURSE,),
    ),
    Mutant(
        "points that ran out before something was taken are forgotten",
        "tables/account.py",
        "return contributions.greatest(nodes, debits, gone, at, least=max(0, gone(at) - spent))",
        "return max(0, gone(at) - spent)",
        (PURSE,),
    ),
    Mutant(
        "a later, shorter life does not reach what is held",
        "tables/terms.py",
        "if last >= since:",
        "if last >= since and before == FOR_EVER:",
        (PURSE,),
    ),
    Mutant(
        "points that wait run out from when they were earned",
        "tables/terms.py",
        "return last if last == NEVER or self.by_inactivity else self.spendable_until(last)",
        "return last",
        (PURSE,),
    ),
    Mutant(
        "an award that was taken back and told again stands",
        "tables/account.py",
        'max(voided_at, told["voided_at"])',
        'told["voided_at"]',
        (ORDER_FREE,),
    ),
    Mutant(
        "a decision by the balance of its request's own time alone",
        "tables/redemptions.py",
        'at = max(asked, held["decided_at"], filed)',
        "at = asked",
        (REDEMPTIONS,),
    ),
    Mutant(
        "what is taken later may be spent before",
        "tables/redemptions.py",
        "purse(nodes, tree, held, terms, at).balance - later",
        "purse(nodes, tree, held, terms, at).balance",
        (ASKING,),
    ),
    Mutant(
        "a request is decided as often as it comes",
        "tables/asking.py",
        """        if redemptions.kept(nodes, held, request["request_id"]).decision is not None:
            return
""",
        "",
        (REDEMPTIONS,),
    ),
    Mutant(
        "history that is told anew is decided anew",
        "tables/asking.py",
        """        if self._waiting is not None:
            self._waiting.append([*ident, dict(request)])
            return
""",
        "",
        (REDEMPTIONS,),
    ),
    Mutant(
        "history is over where what comes at a time is cut by its bytes",
        "streams/journal/pump.py",
        " and sum(row[4] for row in found) < self._bounds.row_bytes",
        "",
        ("tests/integration/test_journal.py",),
    ),
    Mutant(
        "a cancelled redemption that was used gives its points back",
        "tables/redemptions.py",
        """    if any(counts for _, _, counts, _ in code.orders):
        return State("used", None, revision)
    if have.cancelled:
        return State("returned", "cancelled", revision)
""",
        """    if have.cancelled:
        return State("returned", "cancelled", revision)
    if any(counts for _, _, counts, _ in code.orders):
        return State("used", None, revision)
""",
        (REDEMPTIONS,),
    ),
    Mutant(
        "what nobody used in time goes before what became of its order",
        "tables/redemptions.py",
        """    if any(gone for *_, gone in code.orders):
""",
        """    if have.unused:
        return State("returned", UNUSED, revision)
    if any(gone for *_, gone in code.orders):
""",
        (REDEMPTIONS,),
    ),
    Mutant(
        "a failure of a lower attempt counts",
        "lake/redemptions.py",
        'outcomes.sort("attempt", "issued", "valid_until", "code")',
        'outcomes.sort("valid_until", "issued", "attempt", "code")',
        ("tests/unit/test_lake_redemptions.py",),
    ),
    Mutant(
        "the batch spends the newest points first",
        "lake/accounts.py",
        'timed.sort("at").select("begins", "ends", "points")',
        'timed.sort("at", descending=True).select("begins", "ends", "points")',
        (TIES, "tests/property/test_batch_oracle.py"),
    ),
    Mutant(
        "what was decided is told and not archived",
        "streams/sink/store.py",
        '        rows.raw_events += [redemptions.archived(row) for row in fresh if not row["archived"]]\n',
        "",
        (SINK,),
    ),
    Mutant(
        "a second decision overwrites the first",
        "streams/sink/redemptions.py",
        "            if decided != known:",
        "            if False:",
        (SINK,),
    ),
]
