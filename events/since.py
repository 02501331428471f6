"""What holds from an instant on, as a program says it: rules, policies, holds, lives, rewards."""

from abc import abstractmethod
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict

from events import instants

_SINCE_EVER: Final = -(1 << 62)


def _instant(when: datetime) -> datetime:
    if not 1970 <= when.year <= 9998:
        raise ValueError("a time is of 1970 to 9998")
    return when.astimezone(UTC)


#: Between 1970 and 9998, in UTC.
Instant = Annotated[AwareDatetime, AfterValidator(_instant)]


def one_form(number: Decimal) -> Decimal:
    """However it was written: `2`, `2.0` and `2E+0` are one."""
    whole = number.to_integral_value()
    return abs(whole.quantize(Decimal(1)) if number == whole else number.normalize())


class Since(BaseModel):
    """Something that holds for what happens from an instant on; `effective_from` null is "since ever"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    effective_from: Instant | None = None

    @property
    def since(self) -> int:
        """When it takes effect (microseconds); below every instant for "since ever"."""
        return _SINCE_EVER if self.effective_from is None else instants.from_datetime(self.effective_from)

    @property
    @abstractmethod
    def rank(self) -> tuple[Any, ...]:
        """What it is sorted by: of two from one instant on the later by it holds."""


S = TypeVar("S", bound=Since)


def ordered(entries: Iterable[S]) -> tuple[S, ...]:
    """Each once, by when it takes effect; of two at one instant the one that holds comes last."""
    return tuple(sorted(set(entries), key=lambda each: each.rank))
