"""What a fetch asks of the broker: the first record at once, and in traffic what a moment brings together."""

from streams.worker.transport import EMBEDDED_SILENCE, SILENCE, TRAFFIC, TRAFFIC_SECONDS, Fetching


def test_a_silence_ends_with_the_first_record() -> None:
    fetching = Fetching(SILENCE)
    assert fetching.linger(10.0, any_came=False) == SILENCE
    assert fetching.linger(10.1, any_came=True) == TRAFFIC
    assert fetching.linger(10.1 + TRAFFIC_SECONDS * 0.9, any_came=False) == TRAFFIC
    assert fetching.linger(10.1 + TRAFFIC_SECONDS * 1.1, any_came=False) == SILENCE


def test_in_a_silence_the_first_byte_is_enough() -> None:
    assert SILENCE.bytes == EMBEDDED_SILENCE.bytes == 1
    # The embedded broker waits the whole time out: three fetches, one after another, make a customer's row.
    assert 3 * EMBEDDED_SILENCE.milliseconds < 500
    assert 3 * TRAFFIC.milliseconds < 500
