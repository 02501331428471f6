"""The lake: each row of the history once, and every instant as it was."""

from scripts.mutants.mutant import Mutant

LAKE = "tests/integration/test_lake.py"
INSTANTS = f"{LAKE}::test_the_lake_is_the_history_at_any_instant"
LATE = f"{LAKE}::test_who_commits_late_is_not_missed"
SMALL = f"{LAKE}::test_small_files_are_merged_and_old_ones_go"
PUBLISHING = f"{LAKE}::test_a_publishing_run_has_of_the_lake_what_the_history_says"
STANDING = f"{LAKE}::test_whose_values_stand_as_a_run_worked_them_out_is_not_summed_again"
TOGETHER = f"{LAKE}::test_instants_that_are_asked_for_together_are_each_what_it_is_alone"
ANSWERED = f"{LAKE}::test_a_past_instant_is_answered_from_the_lake"

PAST = "tests/integration/test_api_past.py"
ORACLE = f"{PAST}::test_ten_random_instants_are_what_the_oracle_says"
KEPT = f"{PAST}::test_what_is_kept_counts_until_something_else_is_true"

STORE = "tests/integration/test_lake_store.py"
HOLE = f"{LAKE}::test_a_lake_with_a_hole_answers_all_the_same_and_is_mended"

MUTANTS = [
    Mutant(
        "a file that was cut off is whole",
        "lake/manifest.py",
        "all(sizes.get(each.path) == each.size for each in files.every())",
        "all(sizes.get(each.path, 0) > 0 for each in files.every())",
        (HOLE,),
    ),
    Mutant(
        "the lake takes rows above an open transaction",
        "lake/filling.py",
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text",
        "SELECT pg_snapshot_xmax(pg_current_snapshot())::text",
        (LATE,),
    ),
    Mutant(
        "files count before the cursor does",
        "lake/filling.py",
        "        self._root.cursor = self._filled.cursor = to\n",
        "        self._filled.cursor = to\n",
        (f"{LAKE}::test_each_row_of_the_history_is_taken_once",),
    ),
    Mutant(
        "a shop that was added later begins with what comes then",
        "lake/filling.py",
        "        while at != end:\n",
        "        while False:\n",
        (f"{LAKE}::test_a_shop_that_was_added_later_is_made_from_its_beginning",),
    ),
    Mutant(
        "a refusal after the filling is not heard",
        "lake/filling.py",
        "(known.currency, known.refused) != (currency, fingerprint)",
        "known.currency != currency",
        (f"{LAKE}::test_a_refusal_and_its_replay_make_the_shop_anew",),
    ),
    Mutant(
        "whoever is killed before the versions leaves them so",
        "lake/filling.py",
        "            elif known.told:",
        "            elif False:",
        (f"{LAKE}::test_one_that_ended_when_all_was_read_is_gone_on_with",),
    ),
    Mutant(
        "a file goes while somebody may read it",
        "lake/manifest.py",
        "return self._remove_older(old, self._named(root))",
        "return self._remove_older(-1.0, self._named(root))",
        (SMALL,),
    ),
    Mutant(
        "a copy that was cut off is the store's file",
        "lake/manifest.py",
        "if self._size(each.path) != each.size]",
        "if self._size(each.path) is None]",
        (f"{STORE}::test_a_copy_that_was_cut_off_is_fetched_again",),
    ),
    Mutant(
        "an object goes while somebody may read it",
        "lake/manifest.py",
        "        staying |= self._named(root) | {_SWEPT}\n",
        "        staying = self._named(root) | {_SWEPT}\n",
        (f"{STORE}::test_what_nothing_names_any_more_goes_after_an_hour",),
    ),
    Mutant(
        "what a list names is not sent before it",
        "lake/manifest.py",
        "list(threads.map(self._send, self._unsent.intersection(files.paths())))",
        "list(threads.map(self._send, self._unsent.intersection([])))",
        (f"{STORE}::test_one_machine_fills_it_and_another_reads_it",),
    ),
    Mutant(
        "of an order the older layer counts too",
        "lake/versions.py",
        "for later in layers[at + 1 :]:",
        "for later in layers[:0]:",
        (INSTANTS,),
    ),
    Mutant(
        "a version holds at the instant that ends it",
        "lake/versions.py",
        '(pl.col("valid_to") > until)',
        '(pl.col("valid_to") >= until)',
        (INSTANTS,),
    ),
    Mutant(
        "a version takes off a refund that was told later",
        "lake/versions.py",
        "WHERE refund_told_at <= told_at",
        "WHERE refund_told_at >= 0",
        (INSTANTS,),
    ),
    Mutant(
        "the newest told is the newest",
        "lake/versions.py",
        "ORDER BY updated_at, triggered_at, webhook_id, digest) AS rank",
        "ORDER BY triggered_at, updated_at, webhook_id, digest) AS rank",
        (INSTANTS,),
    ),
    Mutant(
        "every instant is taken for now",
        "lake/reading.py",
        "return None if at >= self.newest else at",
        "return None",
        (ANSWERED,),
    ),
    Mutant(
        "an answer leaves out what the lake lacks",
        "lake/reading.py",
        "    if newer or files.told ",
        "    if files.told ",
        (ANSWERED,),
    ),
    Mutant(
        "a customer who is known later is known then",
        "lake/people.py",
        'pl.col("known_from") <= until',
        'pl.col("known_from") >= 0',
        (ANSWERED,),
    ),
    Mutant(
        "what is kept counts when more was told of then",
        "lake/reading.py",
        "    return not _newer(connection, shop, Cursor(int(edge), -1), until, 1)\n",
        "    return True\n",
        (KEPT,),
    ),
    Mutant(
        "what is kept counts under another program",
        "lake/past.py",
        "    said = program.model_dump_json(exclude=_ASIDE)\n",
        "    said = program.shop\n",
        (KEPT,),
    ),
    Mutant(
        "what is kept no longer counts when anything was told",
        "lake/reading.py",
        "  AND triggered_at <= %s::timestamptz\nLIMIT",
        "  AND triggered_at <> %s::timestamptz\nLIMIT",
        (KEPT,),
    ),
    Mutant(
        "a lake made anew leaves what was worked out of the old one",
        "lake/filling.py",
        "                self._lake.forget_past(shop)\n",
        "",
        (KEPT,),
    ),
    Mutant(
        "whoever is somebody else keeps orders",
        "lake/past.py",
        'customer=pl.coalesce("owner", "customer")',
        'customer=pl.coalesce("customer", "owner")',
        (ORACLE,),
    ),
    Mutant(
        "an order of the look-back's first instant counts",
        "lake/past.py",
        'inside &= pl.col("processed_at") > at',
        'inside &= pl.col("processed_at") >= at',
        (ANSWERED, ORACLE),
    ),
    Mutant(
        "an order of tomorrow counts today",
        "lake/past.py",
        'wanted = versions.holding(files.until(at)) & MINE & (pl.col("processed_at") <= at)',
        "wanted = versions.holding(files.until(at)) & MINE",
        (ORACLE,),
    ),
    Mutant(
        "an order of tomorrow counts today, where instants are asked for together",
        "lake/past.py",
        'worth.filter(versions.holding(files.until(at)) & (pl.col("processed_at") <= at))',
        "worth.filter(versions.holding(files.until(at)))",
        (TOGETHER,),
    ),
    Mutant(
        "an order whose webhooks came late counts twice",
        "lake/versions.py",
        'found.filter(~found["order_id"].is_in(newer))',
        "found",
        (KEPT,),
    ),
    Mutant(
        "a row is held against orders of after its own time",
        "lake/past.py",
        '            .filter(pl.col("processed_at") <= pl.col("now"))\n',
        "",
        (PUBLISHING,),
    ),
    Mutant(
        "a row is held against the orders of who is somebody else",
        "lake/past.py",
        "owners, times = owners_of(files, reading.EVER), numbered",
        "owners, times = owners_of(files, reading.EVER).head(0), numbered",
        (PUBLISHING,),
    ),
    Mutant(
        "an order that was told of after a run's reading leaves its customers as they were",
        "lake/since.py",
        "pl.concat([told, _later(files, before.at)])",
        "_later(files, before.at)",
        (STANDING,),
    ),
    Mutant(
        "what a run read, and leaves out as later than its time, leaves its customers as they were",
        "lake/since.py",
        "pl.concat([told, _later(files, before.at)])",
        "told",
        (STANDING,),
    ),
    Mutant(
        "whoever became somebody else since a run stands as they were",
        "lake/since.py",
        '[moved["customer_id"], _named(',
        '[moved["customer_id"].head(0), _named(',
        (STANDING,),
    ),
    Mutant(
        "whoever somebody else is, or was, stands as they were",
        "lake/since.py",
        "pl.concat([touched, *ends])",
        "touched",
        (STANDING,),
    ),
    Mutant(
        "a row of a later time stands as the run left it",
        "lake/past.py",
        'pl.when(pl.col("now") == pl.col("at"))',
        'pl.when(pl.col("at").is_not_null())',
        (STANDING,),
    ),
    Mutant(
        "what was told after a run's time makes its input fresh",
        "lake/past.py",
        '        .filter(pl.col("told_at") <= at)\n        .select(pl.col("now").max())',
        '        .select(pl.col("now").max())',
        (PUBLISHING,),
    ),
    Mutant(
        "a late window is made of the orders of its first day",
        "batch/orders.py",
        "for more in range(3)}",
        "for more in range(1)}",
        (PUBLISHING,),
    ),
    Mutant(
        "a late word of somebody makes them new",
        "lake/people.py",
        "least(b.known_from, t.known_from)",
        "coalesce(t.known_from, b.known_from)",
        (ORACLE,),
    ),
    Mutant(
        "more is read beside the lake than bounds an answer",
        "lake/reading.py",
        "    if len(newer) + _untold(files) > MOST:\n",
        "    if len(newer) > MOST:\n",
        (f"{LAKE}::test_a_filling_that_is_not_over_is_read_or_said_to_be_behind",),
    ),
    Mutant(
        "who has two orders in the first month has not come back",
        "lake/cohorts.py",
        '(new & (pl.col("orders") > 1)) | second',
        "second",
        (f"{PAST}::test_cohorts_are_who_came_back_month_by_month",),
    ),
    Mutant(
        "past instants are worked out all at once",
        "api/past.py",
        'ThreadPoolExecutor(1, "past")',
        'ThreadPoolExecutor(8, "past")',
        (f"{PAST}::test_one_is_worked_out_at_a_time_and_others_wait_or_come_back",),
    ),
    Mutant(
        "who left the shop keeps what they were worth in movement",
        "lake/movement.py",
        '"revenue_after": pl.col("monetary_after").sum()',
        '"revenue_after": pl.col("monetary").sum()',
        (f"{PAST}::test_movement_between_any_two_instants_has_people_and_money",),
    ),
]
