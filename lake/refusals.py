"""What the stream refused counts nowhere until it is replayed: which messages those are."""

import json
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final

from psycopg import Connection

from events.records import MAX_LETTER
from lake.rows import STREAMS

# Refusals of what a message says are made by whoever reads it alike; of the others these letters tell. (Of an unknown
# shop everything is brought in, once it is known: none is left out.)
_LETTERS: Final = """
SELECT source, key, value FROM dead_letters
WHERE shop = %s AND source = ANY(%s) AND error IN ('unexpected', 'too_large') AND replayed_at IS NULL"""


class Refused:
    """The messages that stand in dead letters: by what they say, or by their key where it is too long for a letter."""

    def __init__(self, letters: Iterable[tuple[str, str | None, str | None]]) -> None:
        self._said: set[tuple[str, str]] = set()
        self._long: set[tuple[str, str | None]] = set()
        for stream, key, value in letters:
            if value is None:
                self._long.add((stream, key))
            else:
                self._said.add((stream, _canonical(value)))

    def __contains__(self, row: tuple[str, str, str]) -> bool:
        stream, key, value = row
        if self._long and len(value) > MAX_LETTER and (stream, key) in self._long:
            return True
        return bool(self._said) and (stream, _canonical(value)) in self._said

    @property
    def fingerprint(self) -> str:
        """The same for the same refusals; empty for none."""
        if not self._said and not self._long:
            return ""
        return sha256(repr((sorted(self._said), sorted(self._long, key=repr))).encode()).hexdigest()


def of_shop(connection: Connection[Any], shop: str) -> Refused:
    """What of a shop's messages stands refused now."""
    return Refused(connection.execute(_LETTERS, (shop, list(STREAMS))).fetchall())


def _canonical(value: str) -> str:
    """The same text for two envelopes that say the same, in whatever order."""
    return json.dumps(json.loads(value), sort_keys=True)
