"""The batch: gates before it publishes, and when it is run."""

from scripts.mutants.mutant import Mutant

GATES = "tests/unit/test_gates.py"
POISONED = f"{GATES}::test_each_gate_catches_its_poison_and_a_good_run_passes_all"
STOPPED = "tests/integration/test_batch.py::test_a_gate_that_fails_stops_publication"
NOTICED = "tests/integration/test_batch.py::test_parity_notices"
WHOM = "tests/integration/test_merges.py::test_stream_and_batch_agree_on_who_is_whom"
SCHEDULE = "tests/unit/test_batch_schedule.py"

MUTANTS = [
    Mutant(
        "parity leaves out the orders of a slice's last day",
        "batch/parity.py",
        "(at < end + 26 * instants.HOUR)",
        "(at < end)",
        (NOTICED,),
    ),
    Mutant(
        "parity takes a window for whole that began before its slice",
        "batch/parity.py",
        'found.append(summed.filter(pl.col("start").is_between(first, end, closed="left")))',
        "found.append(summed)",
        (NOTICED,),
    ),
    Mutant(
        "of somebody parity knows no time of their orders",
        "batch/truth.py",
        "SELECT customer_id, now, true FROM owners",
        "SELECT customer_id, 0, true FROM owners",
        (WHOM,),
    ),
    Mutant(
        "a gate that failed stops nothing",
        "batch/gates/running.py",
        "    if failed and not despite:\n",
        "    if failed and despite:\n",
        (STOPPED,),
    ),
    Mutant(
        "gates are asked after the cut points were published",
        "batch/segments.py",
        "if published is not None and self.gating.on else None)",
        "if published is None and self.gating.on else None)",
        (STOPPED,),
    ),
    Mutant(
        "an order that stands in two frames stands once",
        "batch/gates/measuring.py",
        "_twice(pl.concat(ids))",
        "sum(map(_twice, ids))",
        (POISONED,),
    ),
    Mutant(
        "orders of before the look-back are asked of the customers",
        "batch/gates/measuring.py",
        "        inside &= pl.col(",
        "        inside |= pl.col(",
        (POISONED,),
    ),
    Mutant(
        "a lake that is behind while customers are asked is not filled",
        "batch/segments.py",
        "                        filling.fill(self.connection, self.lake)\n",
        "",
        ("tests/integration/test_batch.py::test_a_run_with_a_lake_joins_no_history",),
    ),
    Mutant(
        "what was not measured is in any range",
        "batch/gates/judging.py",
        "        expected.append(gx.expectations.ExpectColumnValuesToNotBeNull(column=name))\n",
        "",
        (POISONED,),
    ),
    Mutant(
        "bounds do not widen with the days between",
        "batch/gates/asking.py",
        "(as_of - before.as_of).total_seconds() / 86_400, 1.0)",
        "0.0, 1.0)",
        (f"{GATES}::test_bounds_are_of_a_day_and_widen_with_the_days_between",),
    ),
    Mutant(
        "a segment that is gone has not moved",
        "batch/gates/asking.py",
        "both = {*shares, *before.shares}",
        "both = {*shares}",
        (POISONED,),
    ),
    Mutant(
        "what a gate stopped is tried again",
        "batch/schedule.py",
        "        except GatesError as error:\n",
        "        except KeyError as error:\n",
        (f"{SCHEDULE}::test_what_a_gate_stopped_is_not_tried_again",),
    ),
    Mutant(
        "whoever ran since has missed it too",
        "batch/schedule.py",
        "    return begun is None or begun < last\n",
        "    return True\n",
        (f"{SCHEDULE}::test_what_was_missed_is_made_up_for_once",),
    ),
    Mutant(
        "several times a day go on beyond the day's first",
        "batch/times.py",
        "(at := at + self._every) < end",
        "(at := at + self._every) < end + timedelta(days=9)",
        (f"{SCHEDULE}::test_weekly_and_several_times_a_day",),
    ),
]
