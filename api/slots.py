"""How many of something may run at once, in all and for one shop."""

from collections import Counter


class Full(RuntimeError):
    """All places are taken; `of_shop`: by the shop itself, while others may still have one."""

    def __init__(self, of_shop: bool) -> None:
        super().__init__("all places are taken")
        self.of_shop = of_shop


class Slot:
    """One place. `give_back` it however its use ends; twice is harmless."""

    def __init__(self, slots: "Slots", shop: str) -> None:
        self._slots = slots
        self._shop = shop
        self._held = True

    def give_back(self) -> None:
        """Lets another in. Twice is harmless."""
        if self._held:
            self._held = False
            self._slots._free(self._shop)


class Slots:
    """Places for one event loop. Looking and taking are one step, without an await between them."""

    def __init__(self, most: int, most_of_shop: int) -> None:
        self._most = most
        self._most_of_shop = most_of_shop
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """How many are taken now, of all shops."""
        return self._taken.total()

    def take(self, shop: str) -> Slot:
        """A place for the shop; Full if there is none."""
        of_shop = self._taken[shop] >= self._most_of_shop
        if of_shop or self.taken >= self._most:
            raise Full(of_shop)
        self._taken[shop] += 1
        return Slot(self, shop)

    def _free(self, shop: str) -> None:
        self._taken[shop] -= 1
        if not self._taken[shop]:
            del self._taken[shop]
