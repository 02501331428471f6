"""Who stands in an export, how they stand there, and what becomes of a file that was made."""

from scripts.mutants.mutant import Mutant

FILTERS = "tests/integration/test_export_filters.py"
PRESETS = "tests/integration/test_export_presets.py"
JOBS = "tests/integration/test_export_jobs.py"
ADDRESSES = "tests/unit/test_addresses.py"

MUTANTS = [
    Mutant(
        "an order at the very instant is before it",
        "api/questions.py",
        'yield "last_order_at", "<", "last_order_before"',
        'yield "last_order_at", "<=", "last_order_before"',
        (f"{FILTERS}::test_the_lake_is_asked_alike",),
    ),
    Mutant(
        "what changed after the instant that is asked for has changed",
        "api/questions.py",
        '_CHANGED + sql.SQL(" AND d.at <= %(as_of)s")',
        '_CHANGED + sql.SQL(" AND %(as_of)s IS NOT NULL")',
        (f"{FILTERS}::test_the_lake_is_asked_alike",),
    ),
    Mutant(
        "a segment that nobody has is an empty file",
        "api/questions.py",
        "    if not known.issuperset(question.segment):\n",
        "    if not known:\n",
        (f"{FILTERS}::test_what_is_not_known_is_said_with_what_is",),
    ),
    Mutant(
        "a list of people who did not agree is anybody's",
        "api/questions.py",
        "if clear or disagreeing else",
        "if clear else",
        (f"{PRESETS}::test_clear_addresses_and_who_did_not_agree_need_the_scope",),
    ),
    Mutant(
        "an address is asked for its consent in the list alone",
        "api/export_streams.py",
        "            await _hear(export.asker, connection, beside, audience)\n",
        "            audience.conclude()\n",
        (f"{PRESETS}::test_who_has_the_address_elsewhere_in_the_shop_is_heard",),
    ),
    Mutant(
        "an address stands as often as somebody has it",
        "api/audiences.py",
        "            if self._past or others is not None:\n",
        "            if self._past:\n",
        (f"{PRESETS}::test_of_one_address_the_newest_consent_decides_once",),
    ),
    Mutant(
        "who is one person today stands twice in a past list",
        "api/audiences.py",
        "            if self._past or others is not None:\n",
        "            if others is not None:\n",
        (f"{PRESETS}::test_a_past_list_has_todays_consent_and_each_person_once",),
    ),
    Mutant(
        "Google knows suffixes",
        "events/addresses.py",
        'name.partition("+")[0].replace',
        "name.replace",
        (ADDRESSES,),
    ),
    Mutant(
        "everybody's dots mean nothing",
        "events/addresses.py",
        "    if domain in _GOOGLE:\n",
        "    if domain:\n",
        (ADDRESSES,),
    ),
    Mutant(
        "a redaction leaves what is being made",
        "books/exports.py",
        "(kept_until IS NOT NULL OR status = 'running')",
        "kept_until IS NOT NULL",
        (f"{JOBS}::test_what_is_made_while_somebody_is_forgotten_is_made_anew",),
    ),
    Mutant(
        "a front door lets no made file go",
        "books/vault.py",
        "(FORGET_BODIES, imports.FORGET, exports.FORGET)",
        "(FORGET_BODIES, imports.FORGET)",
        (f"{JOBS}::test_no_file_outlives_a_redaction",),
    ),
    Mutant(
        "what a process left behind stays so",
        "books/exports.py",
        '            await cursor.execute(_AGAIN if way == "job" else _BROKEN_OFF, asked)\n',
        "            await cursor.execute(_BROKEN_OFF, asked)\n",
        (f"{JOBS}::test_a_restart_ends_none",),
    ),
    Mutant(
        "whoever may export has a file with addresses",
        "api/export_jobs.py",
        "    missing = sorted({*job.scopes} - caller.key.scopes)\n",
        "    missing = sorted({*job.scopes} - {*job.scopes})\n",
        (f"{JOBS}::test_a_file_with_addresses_is_for_those_who_may_see_them",),
    ),
    Mutant(
        "a stream does not hold its lock",
        "api/export_streams.py",
        "            await connection.execute(book.LOCK, (ident,))\n",
        "            pass\n",
        (f"{JOBS}::test_one_that_runs_holds_its_lock",),
    ),
]
