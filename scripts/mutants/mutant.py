"""What a mutant is, and the files of tests that notice more than one kind of them."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """`old` stands once in `file`; with `new` in its place one of `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


ORDER_FREE = "tests/property/test_order_free.py"
FOLDS = "tests/property/test_folds.py"
GOLDEN = "tests/golden/test_golden.py"
POINTS = f"{FOLDS}::test_points_are_floored_in_major_units"
