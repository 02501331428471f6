"""Dead letters: what could not be used, to be looked at, and to be sent again once the cause is gone."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from events import codec, keys, payloads, topics
from events.errors import BadEvent
from runtime.ports import Message, Publisher
from runtime.vault import Pool

#: Where the front door's dead letters come from, instead of a topic.
WEBHOOK = "webhook"

_LIST = """
SELECT at, id, shop, source, key, error, detail, value, sealed IS NOT NULL AS is_sealed, replayed_at
FROM dead_letters
WHERE (%(shop)s::text IS NULL OR shop = %(shop)s) AND (%(error)s::text IS NULL OR error = %(error)s)
  AND (%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s)) AND (NOT %(open)s OR replayed_at IS NULL)
ORDER BY at DESC, id LIMIT %(limit)s
"""


class DeadLetterRow(NamedTuple):
    """A dead letter as it is stored. A sealed body is not shown: nobody could tell whose data it holds."""

    at: datetime
    id: UUID
    shop: str | None
    source: str
    key: str | None
    error: str
    detail: str
    value: str | None
    is_sealed: bool
    replayed_at: datetime | None


class Replayed(NamedTuple):
    """What became of one dead letter: `problem` is None if it was published again."""

    letter: DeadLetterRow
    problem: str | None


async def listing(
    pool: Pool,
    *,
    shop: str | None = None,
    error: str | None = None,
    ids: Sequence[UUID] | None = None,
    unreplayed: bool = False,
    limit: int = 100,
) -> list[DeadLetterRow]:
    """Dead letters, newest first: of a shop, with an error, of these ids, or not replayed yet."""
    async with pool.connection() as connection:
        cursor = connection.cursor(row_factory=class_row(DeadLetterRow))
        chosen = None if ids is None else list(ids)
        await cursor.execute(_LIST, {"shop": shop, "error": error, "ids": chosen, "open": unreplayed, "limit": limit})
        return await cursor.fetchall()


def _webhook(value: str) -> Message:
    """The front door's envelope, keyed and addressed anew."""
    envelope: dict[str, Any] = codec.loads(value.encode())
    topic, shop = envelope["topic"], keys.shop_domain(envelope["shop"])
    kafka_topic, key = topics.for_webhook(topic), shop
    if kafka_topic != topics.SHOPS:
        key = keys.join(shop, keys.resource_id(payloads.resource_of(topic, envelope["payload"])))
    return Message(kafka_topic, key, value.encode())


def message(letter: DeadLetterRow) -> Message:
    """The message that replaying it would publish; ValueError, saying why, if it cannot be replayed."""
    if letter.is_sealed:
        raise ValueError("its body could not be read as a webhook and is kept sealed")
    if letter.value is None:
        raise ValueError("its body was not kept")
    if letter.source == WEBHOOK:
        try:
            return _webhook(letter.value)
        except BadEvent as error:
            raise ValueError(f"it still cannot be addressed ({error})") from None
    if letter.source not in topics.BY_NAME or letter.source == topics.DEAD_LETTERS:
        raise ValueError(f"its source {letter.source!r} is not one of our topics")
    return Message(letter.source, letter.key or "", letter.value.encode())


async def replay(pool: Pool, publisher: Publisher, letters: Sequence[DeadLetterRow], now: datetime) -> list[Replayed]:
    """Publishes dead letters again, oldest first, each to where it came from, and notes when.

    Twice does no harm: whoever reads it has it already. PublishError when one could not be made durable; those
    before it are noted.
    """
    outcomes = []
    for letter in sorted(letters, key=lambda each: (each.at, each.id)):
        try:
            again = message(letter)
        except ValueError as error:
            outcomes.append(Replayed(letter, str(error)))
            continue
        await publisher.publish([again])
        async with pool.connection() as connection:
            await connection.execute(
                "UPDATE dead_letters SET replayed_at = %s WHERE id = %s AND at = %s", (now, letter.id, letter.at)
            )
        outcomes.append(Replayed(letter, None))
    return outcomes
