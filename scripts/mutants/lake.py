"""The lake: each row of the history once, and every instant as it was."""

from scripts.mutants.mutant import Mutant

LAKE = "tests/integration/test_lake.py"
INSTANTS = f"{LAKE}::test_the_lake_is_the_history_at_any_instant"
LATE = f"{LAKE}::test_who_commits_late_is_not_missed"
SMALL = f"{LAKE}::test_small_files_are_merged_and_old_ones_go"
ANSWERED = f"{LAKE}::test_a_past_instant_is_answered_from_the_lake"

MUTANTS = [
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
        (f"{LAKE}::test_killed_at_any_moment_it_goes_on",),
    ),
    Mutant(
        "a file goes while somebody may read it",
        "lake/manifest.py",
        "        named = {_ROOT, *root.lists.values()}\n",
        "        named, old = {_ROOT, *root.lists.values()}, -1.0\n",
        (SMALL,),
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
]
