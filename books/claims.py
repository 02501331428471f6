"""What was asked for by a name and is on its way: noted, so that whoever asks by that name again is held against it."""

from typing import Final

#: Shop, customer and name.
Place = tuple[str, str, str]

#: After so long what was noted is stored, or nobody asks any more.
_OLD: Final = "interval '1 day'"


def let_go(claims: str, key: str, found: str) -> str:
    """The SQL of what is `found` stored, whose claims go with it, and claims for which nobody has waited.

    `key` are the columns of both by which they are the same. A claim that somebody else is about to let go is left to
    them.
    """
    return f"""
WITH found AS ({found}), done AS (
    SELECT {key} FROM {claims} AS claim JOIN found USING ({key}) FOR UPDATE OF claim SKIP LOCKED
), old AS (
    SELECT {key} FROM {claims} WHERE claimed_at < now() - {_OLD} ORDER BY claimed_at LIMIT 100 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM {claims} WHERE ({key}) IN (SELECT {key} FROM done UNION ALL SELECT {key} FROM old)
)
SELECT * FROM found
"""  # noqa: S608
