"""The analysts' file: what is in it, what is not, and how it is swapped."""

from scripts.mutants.mutant import Mutant

FILE = "tests/integration/test_analytics.py"
PRODUCTS = "tests/property/test_products.py"

MUTANTS = [
    Mutant(
        "a column of the analysts' file says nothing",
        "batch/analytics/making.py",
        "        for column, means in table.columns.items():\n",
        "        for column, means in list(table.columns.items())[1:]:\n",
        (f"{FILE}::test_every_table_and_every_column_says_what_it_is",),
    ),
    Mutant(
        "a hash of an address leaves the house",
        "batch/analytics/making.py",
        "CASE WHEN starts_with(id, 'mail-') THEN",
        "CASE WHEN starts_with(id, 'nobody-') THEN",
        (f"{FILE}::test_no_hash_of_an_address_is_in_it_and_no_other_shop",),
    ),
    Mutant(
        "the file is made where its readers look",
        "batch/analytics/making.py",
        '            fresh = aside / "fresh.duckdb"\n',
        "            target.unlink(missing_ok=True)\n            fresh = target\n",
        (f"{FILE}::test_killed_at_any_moment_a_whole_file_stands",),
    ),
    Mutant(
        "what a killed process left stays",
        "batch/analytics/making.py",
        "            shutil.rmtree(left)\n",
        "            pass\n",
        (f"{FILE}::test_killed_at_any_moment_a_whole_file_stands",),
    ),
    Mutant(
        "SQL reaches other files",
        "runtime/duck.py",
        '"enable_external_access": False',
        '"enable_external_access": True',
        (f"{FILE}::test_nothing_else_is_in_reach",),
    ),
    Mutant(
        "SQL changes its settings",
        "runtime/duck.py",
        '        connection.execute("SET lock_configuration = true")\n',
        "",
        (f"{FILE}::test_nothing_else_is_in_reach",),
    ),
    Mutant(
        "of an order the oldest lines count",
        "batch/analytics/staging.py",
        "ORDER BY updated_at DESC, triggered_at DESC,",
        "ORDER BY updated_at, triggered_at DESC,",
        (f"{FILE}::test_lines_are_those_of_the_newest_snapshot",),
    ),
    Mutant(
        "a shop's clocks are those of UTC",
        "batch/analytics/making.py",
        "local(instant) AS {clocks.local('instant', program.zone, made_at)}",
        "local(instant) AS {clocks.local('instant', 'UTC', made_at)}",
        (f"{FILE}::test_money_is_both_and_clocks_are_the_shops",),
    ),
    Mutant(
        "one shop's file fails and the schedule with it",
        "batch/schedule.py",
        '            log.exception("the analysts\' file of %s could not be made", shop)\n',
        "            raise\n",
        ("tests/unit/test_batch_schedule.py",),
    ),
    Mutant(
        "what came back is sold all the same",
        "batch/analytics/products.py",
        "AND l.item IS NOT NULL AND l.pieces > 0",
        "AND l.item IS NOT NULL",
        (PRODUCTS,),
    ),
    Mutant(
        "an order at the very beginning of the look-back counts for its products",
        "batch/analytics/products.py",
        "o.processed_at > {look_back_from}",
        "o.processed_at >= {look_back_from}",
        (PRODUCTS,),
    ),
    Mutant(
        "who bought a product twice in one order bought it again",
        "batch/analytics/products.py",
        "FROM sold GROUP BY {by}, customer_id, nth\n",
        "FROM sold GROUP BY {by}, customer_id, nth, amount\n",
        (PRODUCTS,),
    ),
    Mutant(
        "lift forgets how often the other is bought",
        "batch/analytics/products.py",
        "p.orders * e.orders / (one.orders * other.orders)",
        "p.orders * e.orders / (one.orders * one.orders)",
        (PRODUCTS,),
    ),
    Mutant(
        "a page of products begins with the last of the one before",
        "api/products.py",
        'sql.SQL("({column}, item, variant) {sign} (%(value)s, %(item)s, %(variant)s)")',
        'sql.SQL("({column}, item, variant) {sign}= (%(value)s, %(item)s, %(variant)s)")',
        (f"{FILE}::test_the_api_pages_through_the_files_products",),
    ),
]
