"""What is kept per key: joins and revisions, digits, customers who are one, the tree, windows."""

from scripts.mutants.mutant import FOLDS, GOLDEN, ORDER_FREE, Mutant

WINDOWS = "tests/property/test_windows.py"
ZONES = "tests/property/test_zones.py"
HISTORY = "tests/property/test_history.py"
LOOK_BACK = f"{FOLDS}::test_the_look_back_to_the_microsecond"
RECENCY = f"{FOLDS}::test_recency_is_in_whole_days_of_seconds"
DIGITS = f"{FOLDS}::test_digits_are_the_oracles"
VERSIONS = f"{FOLDS}::test_the_version_in_use_is_the_newest_not_after_now"
CUSTOMERS = f"{FOLDS}::test_a_customers_webhooks_are_a_join"
FACTS = f"{FOLDS}::test_facts_of_an_order_may_come_in_any_order"

MUTANTS = [
    # Revisions and joins
    Mutant(
        "a counter for a revision",
        "tables/orders.py",
        """def revision(state: OrderState, snapshot: orders.Snapshot) -> str:
""",
        """def revision(state: OrderState, snapshot: orders.Snapshot, seen: Any = []) -> str:
    seen.append(1)
    return f"{len(seen):015x}"


def _revision(state: OrderState, snapshot: orders.Snapshot) -> str:
""",
        (FOLDS, ORDER_FREE),
    ),
    Mutant(
        "a snapshot key without any tie-breaker",
        "tables/orders.py",
        'have["key"] < snapshot["key"]',
        'have["key"][:1] < snapshot["key"][:1]',
        (FOLDS, ORDER_FREE),
    ),
    Mutant(
        "a snapshot key without webhook and digest",
        "tables/orders.py",
        'have["key"] < snapshot["key"]',
        'have["key"][:2] < snapshot["key"][:2]',
        (FOLDS, ORDER_FREE),
    ),
    Mutant(
        "a snapshot key without its digest",
        "tables/orders.py",
        'have["key"] < snapshot["key"]',
        'have["key"][:3] < snapshot["key"][:3]',
        (FOLDS, ORDER_FREE),
    ),
    Mutant(
        "a revision that knows refunds by their goods alone",
        "tables/orders.py",
        'sum(map(sum, state["refunds"].values()))',
        'sum(goods for _, goods, *_ in state["refunds"].values())',
        (FOLDS,),
    ),
    Mutant(
        "the last copy of a refund wins",
        "tables/orders.py",
        "refund if have is None else [max(pair) for pair in zip(have, refund, strict=True)]",
        "refund",
        (FOLDS,),
    ),
    Mutant(
        "an order is cancelled only while its newest snapshot says so",
        "tables/orders.py",
        'state["cancelled"] = state["cancelled"] or snapshot["cancelled"]',
        'state["cancelled"] = snapshot["cancelled"]',
        (FOLDS, GOLDEN),
    ),
    Mutant(
        "a lower revision replaces a higher one",
        "tables/customers.py",
        'if before is not None and merging.own_revision(before) >= fact["revision"]:',
        'if before is not None and merging.own_revision(before) == fact["revision"]:',
        (FACTS,),
    ),
    Mutant(
        "a home that an order has left keeps it",
        "tables/customers.py",
        "own = _part(fact, home, home == processed_at, shop)",
        "own = _part(fact, home, True, shop)",
        (FACTS,),
    ),
    Mutant(
        "of two sealed contacts the last that came wins",
        "tables/reaching.py",
        '(have, state["contact"] or "") < (address_key, sealed or "")',
        "have <= address_key",
        (CUSTOMERS,),
    ),
    Mutant(
        "an order's consent is as new as its last update",
        "tables/orders.py",
        '    placed_at = contacts.placed_at(webhook, snapshot["processed_at"])',
        '    placed_at = snapshot["key"][0]',
        (GOLDEN,),
    ),
    Mutant(
        "an order's agreement is newer than a no whose time nobody knows",
        "tables/reaching.py",
        "0 < own[0] < ordered[0]",
        "own[0] < ordered[0]",
        (GOLDEN,),
    ),
    Mutant(
        "whoever took their address away is found by an order's",
        "tables/reaching.py",
        'if contact is None and not state["addressed"]:',
        "if contact is None:",
        (GOLDEN,),
    ),
    Mutant(
        "a redaction holds until the next update",
        "tables/customers.py",
        'state["redacted"] = state["redacted"] or kind is Kind.REDACT',
        'state["redacted"] = kind is Kind.REDACT',
        (GOLDEN,),
    ),
    Mutant("a refund is counted twice", "tables/orders.py", "return refund_id in known", "return False", (GOLDEN,)),
    Mutant(
        "a refund older than a silent snapshot is taken off",
        "tables/orders.py",
        "return created_at <= updated_at",
        "return created_at < updated_at",
        (ORDER_FREE,),
    ),
    Mutant(
        "a refunded order keeps what it shows",
        "tables/orders.py",
        'if snapshot["status"] == "refunded":',
        'if snapshot["status"] == "refunded!":',
        (ORDER_FREE,),
    ),
    Mutant(
        "a sender's clock is believed",
        "events/instants.py",
        "return min(triggered_at, received_at + CLOCK_SKEW)",
        "return triggered_at",
        (GOLDEN,),
    ),
    # RFM
    Mutant(
        "a look-back edge off by a second",
        "tables/customers.py",
        "start = 0 if shop.look_back is None else end - shop.look_back",
        "start = 0 if shop.look_back is None else end - shop.look_back - instants.SECOND",
        (LOOK_BACK,),
    ),
    Mutant(
        "a look-back that contains its first instant",
        "tables/customers.py",
        "start = 0 if shop.look_back is None else end - shop.look_back",
        "start = 0 if shop.look_back is None else end - shop.look_back - 1",
        (LOOK_BACK,),
    ),
    Mutant(
        "an order of this very instant does not count",
        "tables/customers.py",
        'tree, end = state["tree"], state["now"] + 1',
        'tree, end = state["tree"], state["now"]',
        (LOOK_BACK,),
    ),
    Mutant(
        "a balance that forgets what is older than the look-back",
        "tables/customers.py",
        "points, given = points + older.points, given + older.given",
        "points, given = points, given + older.given",
        (LOOK_BACK,),
    ),
    Mutant(
        "recency by calendar days",
        "tables/rfm.py",
        "return (t - latest) // instants.DAY",
        "return t // instants.DAY - latest // instants.DAY",
        (RECENCY,),
    ),
    Mutant(
        "a value at a cut point belongs above it",
        "tables/rfm.py",
        "1 + bisect_left(cut_points.monetary, values.monetary)",
        "1 + bisect_left(cut_points.monetary, values.monetary + 1)",
        (DIGITS,),
    ),
    Mutant(
        "FM rounded down",
        "tables/rfm.py",
        "5 - (f + m + 1) // 2",
        "5 - (f + m) // 2",
        (DIGITS,),
    ),
    Mutant(
        "a version of cut points is used before its as_of",
        "tables/reference.py",
        "at = bisect_right(self.versions, now,",
        "at = bisect_right(self.versions, now + 1,",
        (VERSIONS,),
    ),
    # Customers who are one
    Mutant(
        "who was kept after a merge stays merged",
        "tables/merging.py",
        "return Link(rank, into) if rank > kept else",
        "return Link(rank, into) if rank else",
        (GOLDEN,),
    ),
    Mutant(
        "who is no longer led to is told nothing",
        "tables/merging.py",
        "gone = into != link.into or not alive",
        "gone = not alive",
        (ORDER_FREE,),
    ),
    Mutant(
        "an order that Shopify moves too counts twice",
        "tables/merging.py",
        "return (part[_REVISION] == revision or not name.isdigit()) and (",
        "return (",
        ("tests/unit/test_merging.py",),
    ),
    Mutant(
        "the end of a way is no word of a posting's revision",
        "tables/merging.py",
        'words = [*ranks, "!" if alive else ""] if ranks else []',
        'words = [*ranks, "!"] if ranks and alive else ranks',
        ("tests/unit/test_merging.py", "tests/property/test_merged_redemptions.py"),
    ),
    Mutant(
        "an address is the newest account's",
        "events/links.py",
        'return f"{_MOST_ID - int(customer_id):020d}"',
        'return f"{int(customer_id):020d}"',
        (GOLDEN,),
    ),
    Mutant(
        "a later way does not replace an earlier one",
        "tables/merging.py",
        "return part[_HOPS], part[_ALIVE], part[_REVISION]",
        "return part[_REVISION], part[_ALIVE]",
        (ORDER_FREE,),
    ),
    # The tree
    Mutant(
        "sums that are not worked out again",
        "tables/contributions.py",
        "lines[at] = _line(child, nodes.put(number, child))",
        "lines[at] = [*_line(child, nodes.put(number, child))[:_SUMS], *lines[at][_SUMS:]]",
        (HISTORY,),
    ),
    Mutant(
        "sums by difference, blind to what an entry replaces",
        "tables/contributions.py",
        "lines[at] = _line(child, nodes.put(number, child))",
        "lines[at] = [*_line(child, nodes.put(number, child))[:_SUMS], "
        "*_sum_lines([lines[at][_SUMS:_ACTS], _sum_entries([entry])]), True]",
        (HISTORY,),
    ),
    Mutant(
        "a node is written over",
        "tables/chunks.py",
        """        if number in self._new:
            return number
        self.drop(number)
        return self.add(node)
""",
        """        self._nodes[number] = node
        self._new.add(number)
        return number
""",
        (HISTORY, WINDOWS),
    ),
    Mutant(
        "old nodes are removed before the row",
        "streams/worker/guard.py",
        """        self._produce(values, report)
        # A fold gives removals last: nothing that is kept names them any more.
        gone = [key for key, value in flight.writes.items() if value is None]
        if gone:
            self._produce(((topic, key, None, at) for key in gone), report, [(FENCING, mark)])
""",
        """        gone = [key for key, value in flight.writes.items() if value is None]
        if gone:
            self._produce(((topic, key, None, at) for key in gone), report, [(FENCING, mark)])
        self._produce(values, report)
""",
        (ORDER_FREE,),
    ),
    Mutant(
        "chunks without a bound",
        "tables/contributions.py",
        "if len(lines) <= FAN:",
        "if len(lines) <= FAN * 9:",
        (HISTORY,),
    ),
    # Windows
    Mutant(
        "a window's end belongs to it",
        "tables/windows.py",
        "start = at - at % length",
        "start = at - 1 - (at - 1) % length",
        (WINDOWS,),
    ),
    Mutant(
        "a day of 24 hours",
        "tables/windows.py",
        "programs.local_midnight(day + timedelta(days=1), zone),",
        "programs.local_midnight(day, zone) + instants.DAY,",
        (WINDOWS,),
    ),
    Mutant(
        "a day that an hour begins and ends in has all of it",
        "tables/windows.py",
        "first.utcoffset() == last.utcoffset() and ",
        "",
        (WINDOWS,),
    ),
    Mutant(
        "a recovery fills a window that has just closed",
        "tables/windows.py",
        "if end + RETENTION[size] > stream_time:",
        "if end + RETENTION[size] >= stream_time:",
        (WINDOWS,),
    ),
    Mutant(
        "a window written at the end of its retention",
        "tables/windows.py",
        "return of.end + RETENTION[of.size] > stream_time",
        "return of.end + RETENTION[of.size] >= stream_time",
        (WINDOWS,),
    ),
    Mutant(
        "a late change is written",
        "tables/windows.py",
        "if is_open(of, found.time) else None",
        "if found else None",
        (WINDOWS,),
    ),
    Mutant(
        "a late change is passed over",
        "tables/chunks.py",
        "elif changed or self._partial.is_open",
        "elif self._partial.is_open",
        (WINDOWS, ORDER_FREE),
    ),
    Mutant(
        "an hour is taken to lie inside a day",
        "tables/chunks.py",
        "if not (lone and lone.start <= each.start and each.end <= lone.end):",
        "if not lone:",
        (WINDOWS,),
    ),
    Mutant(
        "who ordered in the window before is not alone in this one",
        "tables/chunks.py",
        "near[0] < each.start and",
        "near[0] < 0 and",
        (WINDOWS,),
    ),
    Mutant(
        "an order that counts nothing is company",
        "tables/contributions.py",
        "and not entries[after][COUNTED]",
        "and False",
        (WINDOWS,),
    ),
    Mutant(
        "a customer is counted once an order",
        "tables/chunks.py",
        "[turned * alone for alone in",
        "[turned for alone in",
        (WINDOWS,),
    ),
    Mutant(
        "whose orders are a tree is counted away once an order",
        "tables/chunks.py",
        "if counted == max(turned, 0) else",
        "if counted <= 1 else",
        (WINDOWS,),
    ),
    Mutant(
        "windows are noted when all homes are filed",
        "tables/chunks.py",
        "for filed in steps:",
        "for filed in list(steps):",
        (ORDER_FREE, WINDOWS),
    ),
    Mutant(
        "recovery counts a customer once an order",
        "tables/restating.py",
        "if guest or not change[windows.ORDERS] or seen.get(window.size) == window.start:",
        "if guest or not change[windows.ORDERS]:",
        (WINDOWS,),
    ),
    Mutant(
        "a shop's days stay under the zone they were first stated under",
        "streams/worker/windows.py",
        "if known is None or zone is None or zone.key == known.zone.key:",
        "if known is None or zone is None or known.zone.key:",
        (ZONES,),
    ),
    Mutant(
        "days of a new zone are counted as stated before they have left",
        "streams/worker/windows.py",
        "made.writes() if last else {}",
        "made.writes()",
        (ZONES,),
    ),
    Mutant(
        "days that came to nothing are not stated under a new zone",
        "tables/restating.py",
        "for window in sorted(self._sums):",
        "for window in sorted(w for w, s in self._sums.items() if any(s)):",
        (ZONES,),
    ),
    Mutant(
        "a zone that a crash kept alone is forgotten",
        "tables/restating.py",
        "            partial.hear_of(shop)",
        "            pass",
        (ZONES,),
    ),
    Mutant(
        "windows are made in one go",
        "streams/worker/windows.py",
        "            await asyncio.sleep(0)\n            if not go_on():",
        "            if not go_on():",
        ("tests/unit/test_partial_windows.py",),
    ),
    Mutant(
        "windows of every partition are made whenever partitions move",
        "streams/worker/windows.py",
        "if found is None or found.version != version:",
        "if True:",
        ("tests/unit/test_partial_windows.py",),
    ),
]
