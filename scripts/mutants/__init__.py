"""Breaks the code in known ways, one at a time, in a copy of the tree, and sees whether the tests notice.

    make mutants                 every mutant; fails if one survives, or no longer fits the code
    make mutants ARGS="-k sums"  those whose name holds a word; ARGS=--list names them all

Each mutant is a text that must stand exactly once in its file, what takes its place, and the tests that must
then fail. First those tests run on the unbroken copy, where they must pass. The mutants are listed by what they
break, a file a list.
"""

from scripts.mutants import (
    accounts,
    analytics,
    api,
    batch,
    exports,
    fulfilment,
    imports,
    lake,
    money,
    notices,
    persons,
    streams,
    tables,
)

MUTANTS = [
    *money.MUTANTS,
    *tables.MUTANTS,
    *accounts.MUTANTS,
    *streams.MUTANTS,
    *persons.MUTANTS,
    *imports.MUTANTS,
    *exports.MUTANTS,
    *lake.MUTANTS,
    *analytics.MUTANTS,
    *batch.MUTANTS,
    *api.MUTANTS,
    *notices.MUTANTS,
    *fulfilment.MUTANTS,
]
