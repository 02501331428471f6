"""Breaks the code in known ways, one at a time, in a copy of the tree, and sees whether the tests notice.

    make mutants                 every mutant; fails if one survives, or no longer fits the code
    make mutants ARGS="-k sums"  those whose name holds a word; ARGS=--list names them all

Each mutant is a text that must stand exactly once in its file, what takes its place, and the fast tests that must
then fail. First those tests run on the unbroken copy, where they must pass.
"""

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    *("events", "tables", "runtime", "books", "imports", "streams", "batch", "api", "cli"),
    *("sql", "tests", "pyproject.toml"),
)
#: A mutant that hangs the tests is noticed too.
SECONDS = 150.0


class Mutant(NamedTuple):
    """`old` stands once in `file`; with `new` in its place one of `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


ORDER_FREE = "tests/property/test_order_free.py"
FOLDS = "tests/property/test_folds.py"
WINDOWS = "tests/property/test_windows.py"
ZONES = "tests/property/test_zones.py"
HISTORY = "tests/property/test_history.py"
EMISSION = "tests/unit/test_emission.py"
GOLDEN = "tests/golden/test_golden.py"
GUARD = "tests/unit/test_guard.py"
SEQUENCE = "tests/unit/test_sequence.py"
STATE = "tests/unit/test_table_state.py"
KEYS = "tests/unit/test_keys.py"
MONEY = f"{FOLDS}::test_what_is_no_amount_is_refused_at_once"
POINTS = f"{FOLDS}::test_points_are_floored_in_major_units"
RULES = f"{FOLDS}::test_a_rule_holds_from_its_very_microsecond"
ANNOUNCED = "tests/property/test_announcements.py"
PROGRAM = f"{FOLDS}::test_a_program_that_is_none"
LOOK_BACK = f"{FOLDS}::test_the_look_back_to_the_microsecond"
RECENCY = f"{FOLDS}::test_recency_is_in_whole_days_of_seconds"
DIGITS = f"{FOLDS}::test_digits_are_the_oracles"
VERSIONS = f"{FOLDS}::test_the_version_in_use_is_the_newest_not_after_now"
CUSTOMERS = f"{FOLDS}::test_a_customers_webhooks_are_a_join"
FACTS = f"{FOLDS}::test_facts_of_an_order_may_come_in_any_order"
STANDINGS = "tests/property/test_standings.py"
REFUSALS = "tests/unit/test_refusals.py"
BOUNDS = "tests/unit/test_records.py"
LEDGER = "tests/unit/test_ledger.py"
CURSORS = "tests/integration/test_api_cursors.py"
WRONG = "tests/unit/test_wrong_input.py"
POLICIES = "tests/unit/test_policies.py"

EMIT_FACTS = """        self._states[key] = state = order_fold.apply(state, webhook, currency)
        for fact in order_fold.facts(webhook.shop, order_id, currency, state, shop.policies):
"""
ADVANCE = """            if flight.pending:
                break
"""

MUTANTS = [
    # What a refund takes off, and whose net it is
    Mutant(
        "goodwill of a refund that the snapshot knows is forgotten",
        "tables/orders.py",
        "        beyond += _taken(refund, policy) - goods\n",
        "            beyond += _taken(refund, policy) - goods\n",
        (POLICIES,),
    ),
    Mutant(
        "a refund of which no payment is told costs nothing",
        "tables/orders.py",
        " and paid != orders.UNTOLD",
        ' or policy.refunds == "money" and paid',
        (POLICIES,),
    ),
    Mutant(
        "goodwill keeps its points",
        "tables/orders.py",
        "    return goods + beyond\n",
        "    return goods\n",
        (POLICIES,),
    ),
    Mutant(
        "money kept of goods that came back holds no tax",
        "tables/orders.py",
        "if goods_left <= 0:",
        "if goods_left < 0:",
        (POLICIES,),
    ),
    Mutant(
        "the tax of goods that a snapshot does not know to be back stays",
        "tables/orders.py",
        "            tax -= goods_tax\n",
        "            pass\n",
        (POLICIES,),
    ),
    Mutant(
        "tax goes off whole, whatever money came back",
        "tables/orders.py",
        "orders.share(min(max(tax, 0), goods_left), value, goods_left)",
        "min(max(tax, 0), value)",
        (POLICIES,),
    ),
    Mutant(
        "a net beyond its bound leaves its model",
        "tables/orders.py",
        "min(max(goods_left - beyond, 0), money.MAX_MINOR)",
        "max(goods_left - beyond, 0)",
        (POLICIES,),
    ),
    Mutant(
        "the policy is that of today",
        "tables/orders.py",
        'policies.at(snapshot["processed_at"])',
        'policies.at(state["now"])',
        (POLICIES,),
    ),
    Mutant(
        "what was earned holds the tax that net does not",
        "tables/orders.py",
        'snapshot["gross_tax"] if policy.taxes == "excluded" else 0',
        "0",
        (POLICIES,),
    ),
    Mutant(
        "half a minor unit of tax is rounded down",
        "events/orders.py",
        "(2 * amount * part + whole) // (2 * whole)",
        "(2 * amount * part) // (2 * whole)",
        (POLICIES,),
    ),
    Mutant(
        "an adjustment without a kind is none",
        "events/orders.py",
        'adjustment.get("kind") or adjustment.get("reason")',
        'adjustment.get("kind")',
        (POLICIES,),
    ),
    Mutant(
        "postage paid back is goodwill",
        "events/orders.py",
        " if each and _is_discrepancy(each)]",
        " if each]",
        (POLICIES,),
    ),
    Mutant(
        "a fee that was kept makes points",
        "events/orders.py",
        '_within(-sum(_spare_amount(each, "amount", currency) or 0 for each in adjustments))',
        '-sum(_spare_amount(each, "amount", currency) or 0 for each in adjustments)',
        (POLICIES,),
    ),
    Mutant(
        "a payment that is pending counts",
        "events/orders.py",
        ' or _word(each, "status") != "success"',
        "",
        (POLICIES,),
    ),
    Mutant(
        "the buyer's money is taken for the shop's",
        "events/orders.py",
        ' or _word(each, "currency") not in ("", currency.lower())',
        "",
        (POLICIES,),
    ),
    Mutant(
        "money for a gift card is taken off goods",
        "events/orders.py",
        "_within(paid - gift)",
        "_within(paid)",
        (POLICIES,),
    ),
    Mutant(
        "prices hold tax wherever nobody says so",
        "events/orders.py",
        'if payload.get("taxes_included") is not True:',
        'if payload.get("taxes_included") is False:',
        (POLICIES,),
    ),
    Mutant(
        "lines that do not tell what is left keep all their tax",
        "events/orders.py",
        "        now = first - sum(tax for _, _, tax, *_ in refunds)\n",
        "        now = first\n",
        (POLICIES,),
    ),
    Mutant(
        "tax of pieces that are gone stays",
        "events/orders.py",
        'now += share(tax, _count(line, "current_quantity", quantity), quantity)',
        "now += tax",
        (POLICIES,),
    ),
    Mutant(
        "a policy holds only after its instant",
        "events/programs.py",
        "self._policies[bisect_right(self._from, processed_at) - 1]",
        "self._policies[bisect_right(self._from, processed_at - 1) - 1]",
        (POLICIES, ANNOUNCED),
    ),
    Mutant(
        "policies stand in no order",
        "events/programs.py",
        "(each.since, each.refunds, each.taxes)",
        "(-each.since, each.refunds, each.taxes)",
        (ANNOUNCED,),
    ),
    Mutant(
        "the newest program overwrites: policies of two processes are lost",
        "events/announcements.py",
        ', "policies": _union_of_policies(one, other)}',
        "}",
        (ANNOUNCED,),
    ),
    Mutant(
        "a policy reaches back",
        "events/announcements.py",
        "if policy.since < at + NOTICE:",
        "if policy.since < at - NOTICE:",
        (ANNOUNCED,),
    ),
    Mutant(
        "a policy since ever is rewritten",
        "events/announcements.py",
        "        if policy.effective_from is None:\n",
        "        if False:\n",
        (ANNOUNCED,),
    ),
    Mutant(
        "a program that says nothing of policies begins anew",
        "events/announcements.py",
        "if known is None else known.policies",
        "if known is None else ()",
        (ANNOUNCED,),
    ),
    Mutant(
        "an older shop takes goodwill back",
        "events/programs.py",
        'BEFORE_POLICIES: Final = Policy(refunds="goods"',
        'BEFORE_POLICIES: Final = Policy(refunds="goods_and_adjustments"',
        (ANNOUNCED,),
    ),
    Mutant(
        "the batch forgets goodwill that a snapshot knows",
        "batch/orders.py",
        'beyond=pl.col("beyond").sum()',
        'beyond=pl.col("beyond").filter(~pl.col("known")).sum()',
        (POLICIES,),
    ),
    Mutant(
        "the batch takes untold money for none",
        "batch/orders.py",
        '(pl.col("refunds") == "money") & told',
        '(pl.col("refunds") == "money")',
        (POLICIES,),
    ),
    Mutant(
        "the batch's products leave 64 bits",
        "batch/orders.py",
        ".cast(pl.Int128), pl.col(amount).cast(pl.Int128)",
        ", pl.col(amount)",
        (POLICIES,),
    ),
    Mutant(
        "the batch looks at the policy of a moment before",
        "batch/orders.py",
        '.search_sorted(at, side="right") - 1\n    return [pl',
        '.search_sorted(at - 1, side="right") - 1\n    return [pl',
        (POLICIES,),
    ),
    Mutant(
        "a new shop's program is announced as it was said",
        "books/programs.py",
        "announcements.completed(before, change(before))",
        "change(before)",
        ("tests/integration/test_api_program.py::test_policies_stay_where_a_put_says_nothing_of_them",),
    ),
    # A batch run
    Mutant(
        "a run passes by whoever is named after it",
        "tables/chunks.py",
        '        state["now"] = max(state["now"], self._as_of(ident[0]))\n',
        "",
        (f"{ORDER_FREE}::test_a_batch_run_may_come_at_any_moment",),
    ),
    Mutant(
        "a run is forgotten with its chunk",
        "tables/chunks.py",
        "            if as_of and self._table.get(_run_key(shop)) != codec.dumps(as_of)",
        "            if as_of < 0",
        (f"{ORDER_FREE}::test_a_batch_run_may_come_at_any_moment",),
    ),
    Mutant(
        "a run asks none of those who came since it was last asked",
        "tables/state.py",
        "        if self._shops is not None and key not in self:",
        "        if self._shops is None and key not in self:",
        (ORDER_FREE,),
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
    # The history of standings
    Mutant(
        "a replay adds the changes of an instant again",
        "streams/sink/standings.py",
        "back = next((at for at in range(first, len(steps)) if steps[at].standing == row.standing), None)",
        "back = len(steps) - 1 if steps and steps[-1].standing == row.standing else None",
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
        '"cancelled": state["cancelled"] or snapshot["cancelled"],',
        '"cancelled": snapshot["cancelled"],',
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
        "tables/customers.py",
        '(have, state["contact"] or "") < (address_key, sealed or "")',
        "have <= address_key",
        (CUSTOMERS,),
    ),
    Mutant(
        "an order's consent is as new as its last update",
        "tables/orders.py",
        "    placed_at = contacts.placed_at(webhook)",
        '    placed_at = snapshot["key"][0]',
        (GOLDEN,),
    ),
    Mutant(
        "an order's agreement is newer than a no whose time nobody knows",
        "tables/customers.py",
        "0 < own[0] < ordered[0]",
        "own[0] < ordered[0]",
        (GOLDEN,),
    ),
    Mutant(
        "whoever took their address away is found by an order's",
        "tables/customers.py",
        'state["contact"] is not None or state["addressed"] or state["order_contact"] is None',
        'state["contact"] is not None or state["order_contact"] is None',
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
    # Money and points
    Mutant(
        "amounts by float",
        "events/money.py",
        "scaled = Decimal(amount).scaleb(places, _EXACT)",
        "scaled = Decimal(float(amount) * 10**places)",
        (MONEY,),
    ),
    Mutant(
        "amounts judged after rounding",
        "events/money.py",
        "Context(prec=200)",
        "Context(prec=28)",
        (MONEY,),
    ),
    Mutant(
        "points by float",
        "events/programs.py",
        "net * numerator // denominator",
        "int(net * (numerator / denominator))",
        (POINTS,),
    ),
    Mutant(
        "points rounded instead of floored",
        "events/programs.py",
        "net * numerator // denominator",
        "(2 * net * numerator + denominator) // (2 * denominator)",
        (POINTS,),
    ),
    Mutant(
        "a rule holds only after its instant",
        "events/programs.py",
        "self._rates[bisect_right(self._from, processed_at) - 1]",
        "self._rates[bisect_right(self._from, processed_at - 1) - 1]",
        (RULES,),
    ),
    Mutant(
        "the newest program overwrites: rules of two processes are lost",
        "events/announcements.py",
        '{"rules": _union(one, other), "policies"',
        '{"policies"',
        (ANNOUNCED,),
    ),
    Mutant(
        "the program read last wins",
        "events/announcements.py",
        "newest = max(one, other, key=_order)",
        "newest = other",
        (ANNOUNCED,),
    ),
    Mutant(
        "a forged program changes the currency",
        "events/announcements.py",
        "if newer.currency != known.currency:",
        "if False:",
        (ANNOUNCED,),
    ),
    Mutant(
        "a rule reaches back",
        "events/announcements.py",
        "if rule.since < at + NOTICE:",
        "if rule.since < at - NOTICE:",
        (ANNOUNCED,),
    ),
    Mutant(
        "a program's own time is believed",
        "events/announcements.py",
        "at = min(max(said, arrived - instants.CLOCK_SKEW), arrived + instants.CLOCK_SKEW)",
        "at = said",
        (ANNOUNCED,),
    ),
    Mutant(
        "a producer's received_at is believed",
        "events/instants.py",
        "return received_at if received_at < at + 1000 else at",
        "return received_at",
        (GOLDEN,),
    ),
    Mutant("a name of any length", "events/programs.py", "tuple[Name, Name,", "tuple[str, Name,", (PROGRAM,)),
    Mutant(
        "a clawback by the rule of today",
        "tables/customers.py",
        'due = shop.rates.points(fact["net"], home)',
        'due = shop.rates.points(fact["net"], instants.parse(fact["changed_at"]))',
        (GOLDEN,),
    ),
    Mutant(
        "a gift card earns",
        "events/orders.py",
        "    return _not_negative(now, ",
        "    now = first = 0\n    return _not_negative(now, ",
        (GOLDEN,),
    ),
    # RFM
    Mutant(
        "a look-back edge off by a second",
        "tables/customers.py",
        "start = 0 if look_back is None else end - look_back",
        "start = 0 if look_back is None else end - look_back - instants.SECOND",
        (LOOK_BACK,),
    ),
    Mutant(
        "a look-back that contains its first instant",
        "tables/customers.py",
        "start = 0 if look_back is None else end - look_back",
        "start = 0 if look_back is None else end - look_back - 1",
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
        "older + span.points",
        "span.points",
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
        "return part[_REVISION] == revision and (",
        "return (",
        ("tests/unit/test_merging.py",),
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
        "*_add(Sums(*lines[at][_SUMS:]), _sum_entries([entry]))]",
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
        "a window written at the end of its retention",
        "tables/windows.py",
        "return of.end + RETENTION[of.size] > stream_time",
        "return of.end + RETENTION[of.size] >= stream_time",
        (WINDOWS,),
    ),
    Mutant(
        "a late change is written",
        "tables/chunks.py",
        "                touched[shop, window] = True\n",
        "                touched[shop, window] = False\n",
        (WINDOWS,),
    ),
    Mutant(
        "a late change is passed over",
        "tables/chunks.py",
        "            elif any(change):\n                touched[shop, window] = True\n",
        "",
        (WINDOWS, ORDER_FREE),
    ),
    Mutant(
        "an hour is taken to lie inside a day",
        "tables/chunks.py",
        "if turned and not (lone and lone.start <= window.start and window.end <= lone.end):",
        "if turned and not lone:",
        (WINDOWS,),
    ),
    Mutant(
        "a customer is counted once an order",
        "tables/chunks.py",
        "change[windows.CUSTOMERS] = turned if lone else 0",
        "change[windows.CUSTOMERS] = turned",
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
        "if guest or not change[windows.ORDERS] or window in seen:",
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
    # Partitions, the sink, wrong input
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
        "if us >= _LATEST:",
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


class Stale(Exception):
    """A mutant that no longer fits the code."""


def copy_tree(to: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(source, to / name)
    return to


def check_fit(mutants: list[Mutant]) -> None:
    """Stale unless each mutant's text stands exactly once in its file and makes Python of it."""
    for mutant in mutants:
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        if (count := text.count(mutant.old)) != 1:
            raise Stale(f"stale mutant {mutant.name!r}: its text stands {count} times in {mutant.file}")
        compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")


def run_tests(tree: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """pytest's exit code and the end of what it said; -1 when it took too long."""
    arguments = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow and not server", "--hypothesis-seed=1", *tests]
    environment = {
        **os.environ,
        "LOYALNEST_TEST_SHRINK": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / ".hypothesis"),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"still running after {SECONDS:.0f} s"
    return done.returncode, "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])


def try_mutant(trees: "queue.Queue[Path]", mutant: Mutant) -> tuple[str, float]:
    """`noticed`, `survived`, or what went wrong; and the seconds it took."""
    started = time.monotonic()
    tree = trees.get()
    file = tree / mutant.file
    text = file.read_text(encoding="utf-8")
    try:
        file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        code, said = run_tests(tree, mutant.tests)
    finally:
        file.write_text(text, encoding="utf-8")
        trees.put(tree)
    # 1: tests failed. Anything else (2: nothing could be collected) says nothing about the tests.
    verdict = {1: "noticed", -1: "noticed (hung)", 0: "survived"}.get(code, f"broken: {said}")
    return verdict, time.monotonic() - started


def run(mutants: list[Mutant], console: Console) -> dict[str, tuple[str, float]]:
    jobs = min(4, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(prefix="loyalnest-mutants-") as folder:
        trees: queue.Queue[Path] = queue.Queue()
        for number in range(jobs):
            (Path(folder) / str(number)).mkdir()
            trees.put(copy_tree(Path(folder) / str(number)))
        tree = trees.get()
        tests = tuple(dict.fromkeys(test.partition("::")[0] for mutant in mutants for test in mutant.tests))
        console.print(f"{len(tests)} files of tests, unbroken ...")
        code, said = run_tests(tree, tests)
        trees.put(tree)
        if code != 0:
            raise Stale(f"the tests do not pass on the unbroken code:\n{said}")
        found: dict[str, tuple[str, float]] = {}
        with Progress(console=console, transient=True) as progress, ThreadPoolExecutor(jobs) as pool:
            task = progress.add_task("mutants", total=len(mutants))

            def one(mutant: Mutant) -> None:
                found[mutant.name] = try_mutant(trees, mutant)
                progress.advance(task)

            list(pool.map(one, mutants))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Break the code in known ways; the tests must notice each.")
    parser.add_argument("-k", metavar="WORD", default="", help="only mutants whose name holds this")
    parser.add_argument("--list", action="store_true", help="name the mutants and end")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    mutants = [mutant for mutant in MUTANTS if arguments.k in mutant.name]
    if arguments.list:
        for mutant in mutants:
            console.print(f"{mutant.name} [dim]({mutant.file})[/dim]")
        return 0
    started = time.monotonic()
    try:
        check_fit(mutants)
        found = run(mutants, console)
    except Stale as error:
        console.print(f"[red]{error}[/red]")
        return 2
    table = Table("mutant", "file", "verdict", "s")
    for mutant in mutants:
        verdict, seconds = found[mutant.name]
        style = "" if verdict.startswith("noticed") else "red"
        table.add_row(mutant.name, mutant.file, verdict, f"{seconds:.0f}", style=style)
    console.print(table)
    lost = [name for name, (verdict, _) in found.items() if not verdict.startswith("noticed")]
    console.print(f"{len(mutants) - len(lost)} of {len(mutants)} noticed in {time.monotonic() - started:.0f} s")
    return 1 if lost or not mutants else 0


if __name__ == "__main__":
    sys.exit(main())
