"""What a fetch asks of the broker: the first record at once, and in traffic what a moment brings together."""

from streams.worker.transport import BACKLOG, EMBEDDED_SILENCE, LAGGING, SILENCE, TRAFFIC, TRAFFIC_SECONDS, Fetching


def test_a_silence_ends_with_the_first_record() -> None:
    fetching = Fetching(SILENCE)
    assert fetching.linger(10.0, 0) == SILENCE
    assert fetching.linger(10.1, 1) == TRAFFIC
    assert fetching.linger(10.1 + TRAFFIC_SECONDS * 0.9, 0) == TRAFFIC
    assert fetching.linger(10.1 + TRAFFIC_SECONDS * 1.1, 0) == SILENCE


def test_what_comes_behind_a_backlog_is_not_asked_for_all_the_time() -> None:
    fetching = Fetching(SILENCE)
    assert fetching.linger(10.0, BACKLOG - 1) == TRAFFIC
    assert fetching.linger(10.0, BACKLOG) == LAGGING
    assert fetching.linger(10.1, 0) == TRAFFIC


def test_in_a_silence_the_first_byte_is_enough() -> None:
    assert SILENCE.bytes == EMBEDDED_SILENCE.bytes == 1
    # The embedded broker waits the whole time out: three fetches, one after another, make a customer's row.
    assert 3 * EMBEDDED_SILENCE.milliseconds < 500
    assert 3 * TRAFFIC.milliseconds < 500
