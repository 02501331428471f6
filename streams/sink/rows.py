"""From records to the rows of the history: one batch, gathered by table. No I/O.

A record that cannot be read as its model becomes a row of dead_letters and never stops the batch. Instants stay the
RFC 3339 text they came as; PostgreSQL reads them.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from operator import itemgetter
from typing import Any, Final

from books import schema
from events import announcements, asked, codec, envelopes, instants, keys, letters, payloads, records, topics
from events.envelopes import Webhook
from events.errors import BadEvent, UnusedTopic
from events.orders import KNOWN_STATUSES
from events.programs import Program
from events.records import PointsRecord, Redemption
from events.webhook_topics import TOPICS, Kind
from streams.sink import standings
from streams.sink.standings import Told
from tables import account
from tables.account import Award
from tables.chunks import Received

#: The columns that each kind of row fills, in the order of its tuples.
COLUMNS: Final = {table.name: table.columns for table in schema.TABLES if table.sink}

Row = tuple[Any, ...]

#: The source, in the metric, of what came by no topic of ours.
_DOOR: Final = "webhook"

#: How somebody who was redacted may be reached.
_UNREACHED: Final = (None, None, None, None, False)

#: Of a key that is not ours so much is kept.
_MAX_KEY: Final = 256

#: A customer's columns, from the row and from the standing in it, and a window's.
_FIRST: Final = itemgetter(*COLUMNS["customers"][:15])
_STANDING: Final = itemgetter(*COLUMNS["customers"][15:22])
_REST: Final = itemgetter(*COLUMNS["customers"][22:])
_LAST: Final = itemgetter(*COLUMNS["customers"][27:])
_WINDOW: Final = itemgetter(*COLUMNS["points_windows"])


class Rows:
    """The rows that a batch of records makes.

    Of what is absolute (customers, windows, days on which points ran out, cut points) only a key's last row is kept:
    of all but cut points the last of the greatest fencing token, and of a customer's the one with the greatest `now`.
    `journal`: the front door wrote raw_events already, so they are left out.
    """

    def __init__(self, journal: bool) -> None:
        self._journal = journal
        self.raw_events: list[Row] = []
        self.programs: list[tuple[Received, Program]] = []  # announced; whether they may be joined, the stored one says
        self.cut_points: dict[tuple[str, str, str], Row] = {}
        self.points: list[PointsRecord] = []
        self.expired: dict[tuple[str, str, str], Row] = {}
        self.redemptions: dict[tuple[str, str, str], list[Redemption]] = {}  # every row that came of each
        self.customers: dict[tuple[str, str], Row] = {}
        self.merged: set[tuple[str, str]] = set()  # customers whose row leads to somebody else
        self.told: dict[standings.Key, list[Told]] = {}  # every row of a customer, in order
        self.awards: dict[tuple[str, str, str], Award] = {}  # what this batch tells of each
        self.windows: dict[tuple[str, str, str, str, int], Row] = {}
        self.late: set[tuple[str, str, str, str]] = set()
        self.dead_letters: list[Row] = []
        self.redacted: dict[tuple[str, str], str] = {}  # (shop, customer) -> when that was asked
        self.redacted_shops: dict[str, str] = {}
        self.let_go: dict[str, str] = {}  # shop -> up to when files that wait to be brought in go, for one of these
        self.shops: set[str] = set()
        self.letters: Counter[tuple[str, str]] = Counter()  # (source, error) of every dead letter, whoever made it
        self.late_windows: Counter[str] = Counter()  # by size
        self.unknown_statuses = 0
        self.ignored = 0  # webhooks of topics that we have no use for

    def add(self, received: Received) -> None:
        """Take one message; what cannot be read is taken as a dead letter."""
        try:
            _READERS[received.topic](self, received)
        except UnusedTopic:
            self.ignored += 1
        except BadEvent as error:
            self.refuse(received, error)

    def refuse(self, received: Received, error: BadEvent) -> None:
        """A dead letter, the same one that an agent makes of the same message."""
        self._keep_letter(letters.of_message(*received[:6], error))

    def _keep_letter(self, letter: records.DeadLetter) -> None:
        source = letter["source"]
        self.letters[source if source in topics.BY_NAME else _DOOR, letter["error"]] += 1
        self.dead_letters.append(_letter_row(letter))

    # --- inputs --------------------------------------------------------------------------------------------------

    def _webhook(self, received: Received) -> None:
        said, value = envelopes.kept(received.value, received.topic, received.timestamp)
        topic, shop, webhook_id, triggered_at, received_at, status = said
        kind = TOPICS[topic].kind
        if kind is Kind.SNAPSHOT:
            self.unknown_statuses += (status or "").lower() not in KNOWN_STATUSES
        elif kind is Kind.AWARD:
            self._award(envelopes.read(value.encode(), received.topic))
        elif kind is Kind.REDACT:
            whose = payloads.key_of(topic, shop, codec.loads(value.encode())["payload"])
            self.redacted[keys.split(whose)] = received_at
            self._let_go(received, shop, received_at)
        elif kind is Kind.SHOP_REDACT:
            self.redacted_shops[shop] = received_at
            self._let_go(received, shop, received_at)
        if not self._journal:
            stands = received.topic, _key(received), shop, topic, webhook_id, triggered_at
            self.raw_events.append((received_at, *stands, value))

    def _let_go(self, received: Received, shop: str, received_at: str) -> None:
        # One that was a dead letter is heard of later than it was received. The journal comes again in each life of
        # the embedded broker: there the time of a record says nothing, and whoever replays a letter lets go.
        heard = received_at if self._journal else max(received_at, _arrived(received), key=instants.parse)
        self.let_go[shop] = max(self.let_go.get(shop, heard), heard, key=instants.parse)

    def _award(self, webhook: Webhook) -> None:
        """Joined as the customer's fold does. One that cannot be used is the worker's to refuse."""
        with suppress(BadEvent):
            told = asked.record(webhook)
            assert told["type"] == "account.award"
            key = told["shop"], told["customer_id"], told["award_id"]
            self.awards[key] = account.award(self.awards.get(key), told)
            self.shops.add(told["shop"])

    def award_rows(self) -> list[Row]:
        """The rows of the awards."""
        return [
            (*key, instants.text(at), *rest, instants.text(each.voided_at) if each.voided_at else None)
            for key, each in self.awards.items()
            for at, *rest in [each.body]
        ]

    def _program(self, received: Received) -> None:
        announced = announcements.read(received.key, received.value, received.timestamp)
        self.programs.append((received, announced))
        self._own_input(received, announced.shop)

    def _cut_points(self, received: Received) -> None:
        found = announcements.read_cut_points(received.value, received.timestamp)
        key = found.shop, found.as_of.isoformat(), found.version
        thresholds = (list(found.recency), list(found.frequency), list(found.monetary))
        self.cut_points[key] = (found.shop, found.version, key[1], found.customers, *thresholds)
        self._own_input(received, found.shop)

    def _rescore(self, received: Received) -> None:
        self._own_input(received, records.read_rescore(received.value, received.timestamp)["shop"])

    def _own_input(self, received: Received, shop: str) -> None:
        if not self._journal:
            at = _arrived(received)
            value = (received.value or b"").decode()
            self.raw_events.append((at, received.topic, _key(received), shop, None, None, at, value))

    # --- results -------------------------------------------------------------------------------------------------

    def _points(self, received: Received) -> None:
        record = records.read(records.POINTS_RECORD, received.value)
        self.shops.add(record["shop"])
        if record["type"] != "points.expired":
            self.points.append(record)
            return
        key = shop, customer_id, day = record["shop"], record["customer_id"], record["day"]
        kept = self.expired.get(key)
        if kept is None or record["fence"] >= kept[-1]:
            told = record["zone"], record["at"], record["points"], record["fence"]
            self.expired[key] = (shop, customer_id, day, *told)

    def _redemption(self, received: Received) -> None:
        row = records.read(records.REDEMPTION, received.value)
        self.redemptions.setdefault((row["shop"], row["customer_id"], row["request_id"]), []).append(row)
        self.shops.add(row["shop"])

    def _customer(self, received: Received) -> None:
        row = records.read(records.CUSTOMER_ROW, received.value)
        key, now, fence, standing = (row["shop"], row["customer_id"]), row["now"], row["fence"], row["standing"]
        values = row["recency_days"], row["frequency"], row["monetary"]
        self.told.setdefault(key, []).append(Told(fence, instants.parse(now), standing, *values, row["cause"]))
        kept = self.customers.get(key)
        if kept is not None:
            if fence < kept[-1]:
                return  # of a former owner of the partition
            if fence == kept[-1] and now != kept[2] and instants.parse(now) < instants.parse(kept[2]):
                return  # a replay begins before what it repeats
        if row["merged_into"] is None:
            self.merged.discard(key)
        else:
            self.merged.add(key)
        rest = (*_UNREACHED, *_LAST(row)) if row["redacted"] else _REST(row)
        self.customers[key] = (*_FIRST(row), *_STANDING(standing), *rest)
        self.shops.add(row["shop"])

    def _window(self, received: Received) -> None:
        row = records.read(records.WINDOW_ROW, received.value)
        shop, size, zone, start, partition = row["shop"], row["size"], row["zone"], row["start"], row["partition"]
        self.shops.add(shop)
        if row["late"]:
            self.late.add((shop, size, zone, start))
            self.late_windows[size] += 1
            return
        kept = self.windows.get((shop, size, zone, start, partition))
        if kept is not None and row["fence"] < kept[-1]:
            return
        self.windows[shop, size, zone, start, partition] = _WINDOW(row)

    def _dead_letter(self, received: Received) -> None:
        letter = records.read(records.DEAD_LETTER, received.value)
        self._keep_letter(letter)
        if letter["shop"]:
            self.shops.add(letter["shop"])


_READERS: Final[dict[str, Callable[[Rows, Received], None]]] = {
    topics.ORDERS: Rows._webhook,
    topics.CUSTOMERS: Rows._webhook,
    topics.SHOPS: Rows._webhook,
    topics.REQUESTS: Rows._webhook,
    topics.PROGRAMS: Rows._program,
    topics.CUT_POINTS: Rows._cut_points,
    topics.RESCORE: Rows._rescore,
    topics.POINTS: Rows._points,
    topics.REDEMPTIONS: Rows._redemption,
    topics.CUSTOMER_ROWS: Rows._customer,
    topics.WINDOWS: Rows._window,
    topics.DEAD_LETTERS: Rows._dead_letter,
}


def _key(received: Received) -> str:
    return _clean((received.key or b"").decode(errors="replace"))[:_MAX_KEY]


def _arrived(received: Received) -> str:
    return instants.text(instants.of_kafka(received.timestamp))


def _letter_row(letter: records.DeadLetter) -> Row:
    return (
        *(letter["at"], letter["id"], _plain(letter["shop"]), letter["source"], letter["partition"]),
        *(letter["offset"], _plain(letter["key"]), letter["error"], _plain(letter["detail"])),
        *(_plain(letter["value"]), letter["sealed"]),
    )


def _plain(text: str | None) -> str | None:
    return None if text is None else _clean(text)


def _clean(text: str) -> str:
    """PostgreSQL's text holds no NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
