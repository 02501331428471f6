"""What the folds know of every shop: its program and its cut points, by version. Pure; streams/ keeps it current."""

from bisect import bisect_right, insort
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

from events import instants
from events.announcements import accept
from events.errors import BadEvent
from events.programs import CutPoints, Policies, Program, Rates, default_cut_points
from tables.terms import Terms


@dataclass(frozen=True)
class ShopReference:
    """One shop's program made ready for the folds, and every cut-point version ever published for it.

    Never changed: what is new makes another one, so that whoever holds one sees one program, whole.
    """

    program: Program
    rates: Rates
    policies: Policies
    zone: ZoneInfo
    look_back: int | None  # microseconds; None is a customer's whole life
    terms: Terms
    versions: tuple[tuple[int, CutPoints], ...]  # by as_of; of two with one as_of the later published is the newer
    default: CutPoints

    @classmethod
    def of(cls, program: Program, versions: tuple[tuple[int, CutPoints], ...] = ()) -> Self:
        """Made ready for the fold from a program, and cut points by their as_of (microseconds)."""
        return cls(
            program,
            Rates(program),
            Policies(program),
            ZoneInfo(program.zone),
            None if program.look_back_days is None else program.look_back_days * instants.DAY,
            Terms(program),
            versions,
            default_cut_points(program.shop, program.currency, instants.to_datetime(0)),
        )

    def adding(self, *published: CutPoints) -> Self:
        """One that knows these cut points too."""
        versions = list(self.versions)
        for each in published:
            insort(versions, (instants.from_datetime(each.as_of), each), key=itemgetter(0))
        return replace(self, versions=tuple(versions))

    def has(self, version: str, as_of: int) -> bool:
        """Whether these cut points are known, as of that instant (microseconds)."""
        return any(at == as_of and found.version == version for at, found in self.versions)

    def cut_points(self, now: int) -> CutPoints:
        """The newest version whose as_of is not after `now`; the default before the first."""
        at = bisect_right(self.versions, now, key=itemgetter(0))
        return self.versions[at - 1][1] if at else self.default


class Missed(NamedTuple):
    """What a fold asked for and nobody knew: a shop's program, a newer one, or a version of its cut points."""

    shop: str
    version: str | None = None


class Reference:
    """Every shop's reference, by domain.

    `missed` gathers what was asked for and is not known: the reader may be behind its topics, and whoever asked had
    better read on and ask again.
    """

    def __init__(self) -> None:
        self.missed: set[Missed] = set()
        self.zoned = 0  # how often a shop came or changed its zone
        self._shops: dict[str, ShopReference] = {}
        self._early: dict[str, list[CutPoints]] = {}

    def __getitem__(self, shop: str) -> ShopReference:
        found = self._shops.get(shop)
        if found is None:
            self.missed.add(Missed(shop))
            raise BadEvent("unknown_shop", f"{shop} has no program yet: add the shop, then replay")
        return found

    def expect(self, shop: str, version: str, as_of: int) -> None:
        """Notes it when a version of cut points that somebody names has not been read yet."""
        if not self[shop].has(version, as_of):
            self.missed.add(Missed(shop, version))

    def expect_program(self, shop: str, announced_at: int) -> None:
        """Notes it when a program that somebody names by when it was announced has not been read yet."""
        known = self[shop].program.announced_at
        if known is None or instants.from_datetime(known) < announced_at:
            self.missed.add(Missed(shop, f"program {announced_at}"))

    def get(self, shop: str) -> ShopReference | None:
        """What is known of a shop; None if it has no program."""
        return self._shops.get(shop)

    def put_program(self, announced: Program) -> None:
        """Joins an announcement to what is known of its shop; BadEvent, and nothing done, if it may not be."""
        shop = announced.shop
        found = self._shops.get(shop)
        if found is None:
            self._shops[shop] = ShopReference.of(announced).adding(*self._early.pop(shop, ()))
        else:
            self._shops[shop] = ShopReference.of(accept(found.program, announced), found.versions)
        if found is None or found.zone.key != self._shops[shop].zone.key:
            self.zoned += 1

    def put_cut_points(self, cut_points: CutPoints) -> None:
        """Takes in a shop's cut points, also before its program."""
        found = self._shops.get(cut_points.shop)
        if found is None:  # the two topics are read side by side
            self._early.setdefault(cut_points.shop, []).append(cut_points)
        else:
            self._shops[cut_points.shop] = found.adding(cut_points)
