"""A partition that nobody leads for a moment: it was made just now, or moves. Who asks for its end asks again."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from runtime import progress
from runtime.settings import Settings
from streams.worker import reference
from tables.reference import Reference


class Leaderless:
    """A client of Kafka whose topics have one partition each; the first question for an end finds no leader."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.asked = 0

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        names = [topic] if topic is not None else [f"{name}" for name in ("shopify.orders", "loyalnest.account-facts")]
        return SimpleNamespace(topics={name: SimpleNamespace(error=None, partitions={0: None}) for name in names})

    def _answer(self) -> int:
        self.asked += 1
        if self.asked == 1:
            raise KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
        return 0

    def get_watermark_offsets(self, _: TopicPartition, timeout: float) -> tuple[int, int]:
        return self._answer(), 0

    def list_offsets(self, places: dict[TopicPartition, Any], request_timeout: float) -> dict[TopicPartition, Any]:
        found = dict[TopicPartition, Future[Any]]()
        for place in places:
            found[place] = Future()
            try:
                found[place].set_result(SimpleNamespace(offset=self._answer()))
            except KafkaException as error:
                found[place].set_exception(error)
        return found

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return places

    def assign(self, _: list[TopicPartition]) -> None:
        pass

    def poll(self, _: float) -> None:
        pass


def test_a_worker_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "Consumer", Leaderless)
    reader = reference.ReferenceReader(Settings(kafka="127.0.0.1:1"), Reference())
    reader.start()
    assert reader._asking.asked == 3  # two topics, and the one that had no leader again


def test_how_far_everybody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "Consumer", Leaderless)
    monkeypatch.setattr(progress, "AdminClient", Leaderless)
    gauge = progress.Gauge(Settings(kafka="127.0.0.1:1"))
    assert gauge._places
    nothing = SimpleNamespace(execute=lambda *_: [])
    found = gauge.read(nothing)  # type: ignore[arg-type]
    assert set(found.ends.values()) == {0}
