"""What the folds know of every shop: its program and its cut points, by version. Pure; streams/ keeps it current."""

from bisect import bisect_right, insort
from zoneinfo import ZoneInfo

from events import instants
from events.errors import BadEvent
from events.programs import CutPoints, Program, Rates, default_cut_points


class ShopReference:
    """One shop's program made ready for the folds, and every cut-point version ever published for it."""

    def __init__(self, program: Program) -> None:
        self._cut_points: list[tuple[int, int, CutPoints]] = []
        self.replace(program)

    def replace(self, program: Program) -> None:
        self.program = program
        self.rates = Rates(program)
        self.zone = ZoneInfo(program.zone)
        self.look_back = None if program.look_back_days is None else program.look_back_days * instants.DAY
        self._default = default_cut_points(program.shop, program.currency, instants.to_datetime(0))

    def add(self, cut_points: CutPoints) -> None:
        """Adds a version; of two with one as_of the later published is the newer."""
        insort(self._cut_points, (instants.from_datetime(cut_points.as_of), len(self._cut_points), cut_points))

    def has(self, version: str, as_of: int) -> bool:
        return any(at == as_of and found.version == version for at, _, found in self._cut_points)

    def cut_points(self, now: int) -> CutPoints:
        """The newest version whose as_of is not after `now`; the default before the first."""
        at = bisect_right(self._cut_points, now, key=lambda found: found[0])
        return self._cut_points[at - 1][2] if at else self._default


class Reference:
    """Every shop's reference, by domain.

    `missed` is set when something was asked for that is not known: the reader may be behind its topics, and whoever
    asked had better read on and ask again.
    """

    def __init__(self) -> None:
        self.missed = False
        self._shops: dict[str, ShopReference] = {}
        self._early: dict[str, list[CutPoints]] = {}

    def __getitem__(self, shop: str) -> ShopReference:
        found = self._shops.get(shop)
        if found is None:
            self.missed = True
            raise BadEvent("unknown_shop", f"{shop} has no program yet: add the shop, then replay")
        return found

    def expect(self, shop: str, version: str, as_of: int) -> None:
        """Notes it when a version of cut points that somebody names has not been read yet."""
        if not self[shop].has(version, as_of):
            self.missed = True

    def get(self, shop: str) -> ShopReference | None:
        return self._shops.get(shop)

    def zones(self) -> dict[str, ZoneInfo]:
        return {shop: found.zone for shop, found in self._shops.items()}

    def put_program(self, program: Program) -> None:
        found = self._shops.get(program.shop)
        if found is not None:
            found.replace(program)
            return
        self._shops[program.shop] = made = ShopReference(program)
        for cut_points in self._early.pop(program.shop, ()):
            made.add(cut_points)

    def put_cut_points(self, cut_points: CutPoints) -> None:
        found = self._shops.get(cut_points.shop)
        if found is not None:
            found.add(cut_points)
        else:  # the two topics are read side by side
            self._early.setdefault(cut_points.shop, []).append(cut_points)
