"""The one loop of patience: look, wait, look again, and give up in time. Seconds everywhere; all of it blocks."""

import math
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

T = TypeVar("T")


def until(look: Callable[[], T], seconds: float, every: float) -> T:
    """What `look` says once that is true, looking at least once; after so many seconds what it said last, false."""
    retrying = Retrying(
        retry=retry_if_result(lambda found: not found),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(every),
        retry_error_callback=_last,
    )
    return retrying(look)


def while_moving(left: Callable[[], int | None], seconds: float, every: float) -> int | None:
    """Looks at what is left until that is None, or has not become less for so many seconds; what was left last.

    At most half of the time goes into looking, however long a look takes.
    """
    least, began = math.inf, 0.0
    moved = time.monotonic()

    def look() -> int | None:
        nonlocal least, began, moved
        began = time.monotonic()
        found = left()
        if found is not None and found < least:
            least, moved = found, time.monotonic()
        return found

    retrying = Retrying(
        retry=retry_if_result(lambda found: found is not None),
        stop=lambda _: time.monotonic() - moved > seconds,
        wait=lambda _: max(every, time.monotonic() - began),
        retry_error_callback=_last,
    )
    return retrying(look)


def retried(
    step: Callable[[], T],
    errors: type[Exception],
    seconds: float,
    every: float,
    hopeless: Callable[[], bool] = lambda: False,
) -> T:
    """What `step` gives, tried again on these errors; after so many seconds, or once it is hopeless, the error."""
    over = stop_after_delay(seconds)
    retrying = Retrying(
        retry=retry_if_exception_type(errors),
        stop=lambda state: over(state) or hopeless(),
        wait=wait_fixed(every),
        reraise=True,
    )
    return retrying(step)


def _last(state: RetryCallState) -> object:
    assert state.outcome is not None
    return state.outcome.result()
