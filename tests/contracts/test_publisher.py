"""Both publishers, on embedded and on real servers: what is published is durable, whole, in order and in its place."""

import asyncio
import random
import string
from collections.abc import Awaitable, Callable
from uuid import uuid4

import psycopg
import pytest
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from msgspec.structs import replace

from cli.stack.embedded import PARTITIONS
from events import awards, codec, keys, topics
from events.messages import Message
from runtime import kafka
from runtime.ports import Publisher, PublishError
from runtime.settings import Settings
from streams.publisher import JournalPublisher, KafkaPublisher
from tests.sinks import SHOP, envelope, rows

#: (stream, key, value) as a reader finds them, in the order of each key.
Read = list[tuple[str, str, bytes]]
Step = Callable[[Publisher], Awaitable[None]]


class KafkaWay:
    """KafkaPublisher, and a consumer to look with."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        kafka.create_topics(settings)

    def make(self) -> KafkaPublisher:
        return KafkaPublisher(self.settings)

    def read(self) -> Read:
        return [(name, key, value) for name, _, key, value in self.read_places()]

    def read_places(self) -> list[tuple[str, int, str, bytes]]:
        """All of the topics' messages: (topic, partition, key, value)."""
        config = kafka.consumer_config(self.settings, f"look-{uuid4().hex}")
        consumer = Consumer({**config, "auto.offset.reset": "earliest", "enable.partition.eof": True})
        names = {self.settings.topic(topic.name): topic.name for topic in topics.ALL}
        known = consumer.list_topics(timeout=10).topics
        places = [TopicPartition(name, at, 0) for name in names for at in known[name].partitions]
        consumer.assign(places)
        found, open_places = [], len(places)
        while open_places:
            for message in consumer.consume(1000, 0.1):
                if message.error() is not None:
                    open_places -= 1
                else:
                    name = names[message.topic()]
                    found.append((name, message.partition(), message.key().decode(), message.value()))
        consumer.close()
        return found


class JournalWay:
    """JournalPublisher, and raw_events to look at."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def make(self) -> JournalPublisher:
        return JournalPublisher(self.settings)

    def read(self) -> Read:
        found = rows(self.settings, "SELECT stream, key, value FROM raw_events ORDER BY xid, id")
        return [(stream, key, value.encode()) for stream, key, value in found]


Way = KafkaWay | JournalWay


def real_way(request: pytest.FixtureRequest) -> KafkaWay:
    server, prefix = request.getfixturevalue("real_kafka"), request.getfixturevalue("topic_prefix")
    return KafkaWay(Settings(kafka=server, topic_prefix=prefix, partitions=7))


@pytest.fixture(params=["mock", pytest.param("real", marks=pytest.mark.server)])
def kafka_way(request: pytest.FixtureRequest) -> KafkaWay:
    if request.param == "mock":
        return KafkaWay(Settings(kafka=request.getfixturevalue("mock_kafka"), partitions=PARTITIONS))
    return real_way(request)


@pytest.fixture(
    params=[
        "database",
        *(pytest.param(f"real_{each}", marks=pytest.mark.server) for each in ("database", "plain_database")),
    ]
)
def journal_way(request: pytest.FixtureRequest) -> JournalWay:
    return JournalWay(Settings(database=request.getfixturevalue(request.param)))


@pytest.fixture(
    params=[
        "kafka-mock",
        "journal-embedded",
        *(pytest.param(each, marks=pytest.mark.server) for each in ("kafka-real", "journal-real", "journal-plain")),
    ]
)
def way(request: pytest.FixtureRequest) -> Way:
    kind = request.param
    if kind == "kafka-mock":
        return KafkaWay(Settings(kafka=request.getfixturevalue("mock_kafka"), partitions=PARTITIONS))
    if kind == "kafka-real":
        return real_way(request)
    fixture = {"embedded": "database", "real": "real_database", "plain": "real_plain_database"}[kind.split("-")[1]]
    return JournalWay(Settings(database=request.getfixturevalue(fixture)))


def use(way: Way, step: Step) -> None:
    async def whole() -> None:
        publisher = way.make()
        try:
            await step(publisher)
        finally:
            await publisher.close()

    asyncio.run(whole())


def order(number: int, text: str = "") -> Message:
    value = codec.dumps(envelope("orders/paid", {"id": number, "text": text}, webhook_id=f"w-{number}"))
    return Message(topics.ORDERS, keys.join(SHOP, str(number)), value)


def award(number: int) -> Message:
    body = awards.Body(number, 5, "", "test", False)
    return awards.message(SHOP, str(number), "a", body, 1_795_253_400_000_000)


def rescore(number: int) -> Message:
    value = {"shop": SHOP, "customer_id": str(number), "as_of": "2026-11-21T00:00:00Z", "version": "v1"}
    return Message(topics.RESCORE, keys.join(SHOP, str(number)), codec.dumps(value))


# --- both --------------------------------------------------------------------------------------------------------


def test_what_was_published_is_there_when_the_call_returns(way: Way) -> None:
    sent = [order(1), rescore(7), award(8), order(2, "Grüße 😀")]

    async def step(publisher: Publisher) -> None:
        await publisher.publish(sent)
        found = await asyncio.to_thread(way.read)
        assert sorted(found) == sorted((each.topic, each.key, each.value) for each in sent)

    use(way, step)


def test_nothing_to_publish_is_done_at_once(way: Way) -> None:
    use(way, lambda publisher: publisher.publish([]))
    assert way.read() == []


def test_messages_of_one_key_keep_their_order(way: Way) -> None:
    def numbered(call: int, at: int) -> Message:
        return replace(rescore(1), value=codec.dumps({"call": call, "at": at}))

    async def step(publisher: Publisher) -> None:
        for call in range(20):
            await publisher.publish([numbered(call, at) for at in range(5)])

    use(way, step)
    assert [codec.loads(value) for *_, value in way.read()] == [
        {"call": call, "at": at} for call in range(20) for at in range(5)
    ]


def test_many_calls_at_once_each_get_their_own_answer(way: Way) -> None:
    sent = [order(number) for number in range(1, 301)]

    async def step(publisher: Publisher) -> None:
        await asyncio.gather(*(publisher.publish([each]) for each in sent))

    use(way, step)
    assert sorted(way.read()) == sorted((each.topic, each.key, each.value) for each in sent)


def test_a_cancelled_call_harms_no_other(way: Way) -> None:
    async def step(publisher: Publisher) -> None:
        calls = [asyncio.ensure_future(publisher.publish([order(number)])) for number in range(1, 21)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert results[1::2] == [None] * 10
        await publisher.publish([order(99)])

    use(way, step)
    found = {key for _, key, _ in way.read()}
    assert found >= {keys.join(SHOP, str(number)) for number in [*range(2, 21, 2), 99]}


def test_closing_twice_is_harmless(way: Way) -> None:
    async def step(publisher: Publisher) -> None:
        await publisher.publish([order(1)])
        await publisher.close()

    use(way, step)


def test_a_chosen_partition_is_kept_or_refused(way: Way) -> None:
    chosen = replace(rescore(1), partition=PARTITIONS - 1)
    if isinstance(way, JournalWay):
        with pytest.raises(PublishError):
            use(way, lambda publisher: publisher.publish([chosen]))
        assert way.read() == []
        return
    others = [replace(chosen, partition=number) for number in range(PARTITIONS)]
    use(way, lambda publisher: publisher.publish(others))
    assert sorted(place[1] for place in way.read_places()) == list(range(PARTITIONS))


# --- Kafka -------------------------------------------------------------------------------------------------------


def test_the_partition_of_a_key_is_the_same_for_every_producer(kafka_way: KafkaWay) -> None:
    """librdkafka (our publisher), aiokafka (Faust) and events.keys must agree, or a customer is split in two."""
    draw = random.Random(7)
    partitions = kafka_way.settings.partitions
    letters = string.ascii_letters + string.digits + "/.-_äß漢😀"
    made = {keys.join(SHOP, str(draw.randrange(10 ** draw.randrange(1, 20)))) for _ in range(1500)}
    made |= {"".join(draw.choices(letters, k=draw.randrange(1, 40))) for _ in range(1500)}
    messages = [Message(topics.CUSTOMERS, key, b"{}") for key in sorted(made)]
    use(kafka_way, lambda publisher: publisher.publish(messages))

    found = {key: partition for _, partition, key, _ in kafka_way.read_places()}
    assert found.keys() == made
    aiokafka = DefaultPartitioner()
    everyone = list(range(partitions))
    for key, partition in found.items():
        assert keys.partition_of(key.encode(), partitions) == partition
        assert aiokafka(key.encode(), everyone, everyone) == partition
    assert set(found.values()) == set(everyone)


def test_a_message_beyond_the_limit_is_refused_and_the_rest_of_the_call_goes_out(kafka_way: KafkaWay) -> None:
    big = replace(order(2), value=b"x" * (topics.MAX_MESSAGE_BYTES + 1))

    async def step(publisher: Publisher) -> None:
        with pytest.raises(PublishError, match=topics.ORDERS):
            await publisher.publish([order(1), big, order(3)])
        await publisher.publish([order(4)])  # and the publisher goes on

    use(kafka_way, step)
    assert {key for _, key, _ in kafka_way.read()} == {keys.join(SHOP, str(number)) for number in (1, 3, 4)}


@pytest.mark.server
def test_a_body_of_ten_megabytes_goes_through(real_kafka: str, topic_prefix: str) -> None:
    way = KafkaWay(Settings(kafka=real_kafka, topic_prefix=topic_prefix, partitions=4))
    big = replace(order(1), value=b'"' + random.Random(1).randbytes(5 * 1024 * 1024).hex().encode() + b'"')
    use(way, lambda publisher: publisher.publish([big, order(2)]))
    assert {key: value for _, key, value in way.read()}[big.key] == big.value


def test_nothing_is_published_after_close_or_a_fatal_error(mock_kafka: str) -> None:
    way = KafkaWay(Settings(kafka=mock_kafka, partitions=PARTITIONS))

    async def closed(publisher: Publisher) -> None:
        await publisher.close()
        with pytest.raises(PublishError, match="closed"):
            await publisher.publish([order(1)])

    async def fatal(publisher: Publisher) -> None:
        publisher._fatal = "the producer cannot go on: fenced"  # type: ignore[attr-defined]
        with pytest.raises(PublishError, match="cannot go on"):
            await publisher.publish([order(1)])

    use(way, closed)
    use(way, fatal)
    assert way.read() == []


def test_no_broker_means_an_error_and_not_a_silent_loss() -> None:
    class Impatient(KafkaPublisher):
        def __init__(self, settings: Settings) -> None:
            super().__init__(settings)
            self._producer = Producer({**kafka.producer_config(settings), "delivery.timeout.ms": 500, "log_level": 0})

    async def whole() -> None:
        publisher = Impatient(Settings(kafka="127.0.0.1:9"))
        with pytest.raises(PublishError):
            await publisher.publish([order(1)])
        await publisher.close()

    asyncio.run(whole())


def test_who_is_asked_whether_it_is_ready_hears_of_brokers_that_are_away() -> None:
    """Nothing is published through who is not ready: what the producer told was kept for whoever would, without end."""

    class Listening(KafkaPublisher):
        def _heard(self, error: KafkaError) -> None:
            super()._heard(error)
            heard.set()

    heard = asyncio.Event()

    async def whole() -> None:
        publisher = Listening(Settings(kafka="127.0.0.1:9"))
        assert not await publisher.ready()
        await asyncio.wait_for(heard.wait(), 20)
        await publisher.close()

    asyncio.run(whole())


# --- topics ------------------------------------------------------------------------------------------------------


@pytest.fixture
def topic_names(kafka_way: KafkaWay) -> Settings:
    return kafka_way.settings


def test_creating_topics_again_makes_none(topic_names: Settings) -> None:
    assert kafka.create_topics(topic_names) == []


def test_another_number_of_partitions_is_a_clear_error(topic_names: Settings) -> None:
    other = topic_names.model_copy(update={"partitions": topic_names.partitions + 1})
    with pytest.raises(kafka.TopicError, match=f"has {topic_names.partitions} partitions"):
        kafka.create_topics(other)


def test_no_kafka_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "_TIMEOUT", 1)
    with pytest.raises(kafka.TopicError, match="Kafka cannot be reached"):
        kafka.create_topics(Settings(kafka="127.0.0.1:9"))


# --- the journal -------------------------------------------------------------------------------------------------


def test_the_journal_fills_what_is_known_of_a_webhook(journal_way: JournalWay) -> None:
    use(journal_way, lambda publisher: publisher.publish([order(1), rescore(7), award(8)]))
    found = rows(
        journal_way.settings,
        "SELECT shop, webhook_topic, webhook_id, received_at::text, triggered_at::text, triggered_at = received_at"
        " FROM raw_events ORDER BY id",
    )
    assert found[0] == (SHOP, "orders/paid", "w-1", "2026-11-21 09:30:01+00", "2026-11-21 09:30:00+00", False)
    shop, webhook_topic, webhook_id, *_, same = found[1]
    assert (shop, webhook_topic, webhook_id, same) == (SHOP, None, None, True)
    assert found[2][:2] == (SHOP, "account/award")
    assert found[2][2].startswith("award/a/")


def test_the_journal_believes_no_time_to_come(journal_way: JournalWay) -> None:
    """A dead letter that is replayed may say anything; embedded, no broker's time bounds it."""
    forged = envelope("orders/paid", {"id": 1}, received_at="9998-01-01T00:00:00Z")
    use(journal_way, lambda publisher: publisher.publish([replace(order(1), value=codec.dumps(forged))]))
    query = "SELECT received_at <= now(), (value::jsonb ->> 'received_at')::timestamptz = received_at FROM raw_events"
    assert rows(journal_way.settings, query) == [(True, True)]


@pytest.mark.parametrize(
    "value", [b"\xff", b"not json", b"[]", b"{}", codec.dumps(envelope("orders/paid", {}, received_at="x"))]
)
def test_the_journal_refuses_what_is_no_envelope(value: bytes, database: str) -> None:
    async def step(publisher: Publisher) -> None:
        with pytest.raises(PublishError):
            await publisher.publish([replace(order(1), value=value)])
        await publisher.publish([order(2)])

    way = JournalWay(Settings(database=database))
    use(way, step)
    assert len(way.read()) == 1


def test_one_calls_bad_value_does_not_fail_the_others(database: str) -> None:
    bad = replace(rescore(1), key="nul\0")

    async def step(publisher: Publisher) -> None:
        calls = [publisher.publish([order(1)]), publisher.publish([bad]), publisher.publish([order(2)])]
        first, second, third = await asyncio.gather(*calls, return_exceptions=True)
        assert (first, third) == (None, None)
        assert isinstance(second, PublishError)

    way = JournalWay(Settings(database=database))
    use(way, step)
    assert len(way.read()) == 2


def test_the_journal_outlives_its_connection(database: str) -> None:
    way = JournalWay(Settings(database=database))

    async def step(publisher: Publisher) -> None:
        await publisher.publish([order(1)])
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'loyalnest journal'"
            )
        await publisher.publish([order(2)])

    use(way, step)
    assert len(way.read()) == 2


def test_the_journal_is_not_ready_while_it_cannot_be_written(database: str) -> None:
    async def step(publisher: Publisher) -> None:
        assert await publisher.ready()
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("ALTER TABLE raw_events RENAME TO away")
            with pytest.raises(PublishError):
                await publisher.publish([order(1)])
            assert not await publisher.ready()
            connection.execute("ALTER TABLE away RENAME TO raw_events")
        assert await publisher.ready()
        with pytest.raises(PublishError):  # a value of its sender's says nothing of the journal
            await publisher.publish([replace(rescore(1), key="nul\0")])
        assert await publisher.ready()

    way = JournalWay(Settings(database=database))
    use(way, step)
    assert way.read() == []


def test_a_broker_that_is_silent_is_not_ready(mock_kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(kafka=mock_kafka, partitions=PARTITIONS)

    async def step(publisher: Publisher) -> None:
        assert isinstance(publisher, KafkaPublisher)
        await publisher.publish([order(1)])
        assert await publisher.ready()
        publisher._waiting += 1  # and no word of it
        monkeypatch.setattr("streams.publisher.STALLED_SECONDS", 0.0)
        assert not await publisher.ready()
        publisher._waiting -= 1
        assert await publisher.ready()
        publisher._fatal = "fenced"
        assert (publisher.failed(), await publisher.ready()) == ("fenced", False)

    use(KafkaWay(settings), step)


def test_what_is_published_while_it_closes_is_answered(mock_kafka: str) -> None:
    """A message that came while the queue was flushed waited for ever: nobody asked for its report any more."""

    async def whole() -> None:
        publisher = KafkaPublisher(Settings(kafka=mock_kafka, partitions=PARTITIONS))
        calls = [asyncio.ensure_future(publisher.publish([order(number)])) for number in range(200)]
        closing = asyncio.ensure_future(publisher.close())
        await asyncio.sleep(0)
        calls += [asyncio.ensure_future(publisher.publish([order(number)])) for number in range(200, 220)]
        results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
        await closing
        assert results[:200] == [None] * 200
        assert all(isinstance(each, PublishError) for each in results[200:])

    asyncio.run(whole())


def test_the_journal_without_a_database_raises(postgres: str) -> None:
    async def step(publisher: Publisher) -> None:
        with pytest.raises(PublishError, match="could not be written"):
            await publisher.publish([order(1)])

    use(JournalWay(Settings(database="postgresql://nobody@127.0.0.1:9/none")), step)
