"""How a shop's segments look, and what they and its rewards are called: a name in each language."""

from collections.abc import Callable

from api import segments
from api.dashboard import grid
from api.dashboard.rendering import Writing
from events.programs import PROSPECTS, Program


def _meanings(gettext: Callable[[str], str]) -> dict[str, str]:
    """What the default grid's segments mean, in a language."""
    return {
        "Champions": gettext("They bought lately, buy often and spend the most."),
        "Loyal": gettext("They buy often or spend much, and were here not long ago."),
        "Active": gettext("They bought lately, and are on their way to buying more."),
        "New": gettext("Their first orders came lately."),
        "Promising": gettext("They bought not long ago, but seldom and little so far."),
        "Needs attention": gettext("Average in all, and not seen for a while."),
        "Almost lost": gettext("They bought little, and their last order is a while ago."),
        "Previously loyal": gettext("They were among the best, and have not been back for long."),
        "At risk": gettext("They bought well once, and have not been back for long."),
        "Dormant": gettext("They bought little, long ago."),
        "Prospects": gettext("Known to the shop, without an order that counts in the look-back."),
    }


def _names(gettext: Callable[[str], str]) -> dict[str, str]:
    """The default grid's names in a language."""
    return {
        "Champions": gettext("Champions"),
        "Loyal": gettext("Loyal"),
        "Active": gettext("Active"),
        "New": gettext("New"),
        "Promising": gettext("Promising"),
        "Needs attention": gettext("Needs attention"),
        "Almost lost": gettext("Almost lost"),
        "Previously loyal": gettext("Previously loyal"),
        "At risk": gettext("At risk"),
        "Dormant": gettext("Dormant"),
        "Prospects": gettext("Prospects"),
    }


class Looks:
    """How a shop's segments look, one colour each, everywhere; and what its rewards are called."""

    def __init__(self, program: Program) -> None:
        self._rank = segments.order_of(program)
        self._translations = program.translations
        # The latest that was announced of each: one that has ended is still called something.
        self._rewards = {each.reward_id: each for each in program.rewards}

    def colour(self, segment: str | None) -> str:
        """The class of its colour."""
        return grid.colour(None if segment is None else self._rank.get(segment), segment == PROSPECTS)

    def meaning(self, segment: str, writing: Writing) -> str:
        """A sentence on it; empty for a name of the shop's own."""
        return _meanings(writing.gettext).get(segment, "")

    def name(self, segment: str | None, writing: Writing) -> str:
        """Its name in the page's language: as the program translates it, else as we do those of the default grid."""
        if segment is None:
            return "–"
        told = self._translations.get(writing.language, {}).get(segment)
        return told or _names(writing.gettext).get(segment, segment)

    def names(self, writing: Writing) -> dict[str, str]:
        """Every segment's of the grid, and Prospects'."""
        return {each: self.name(each, writing) for each in self._rank}

    def reward(self, reward_id: str, writing: Writing) -> str:
        """A reward's name in the page's language; of one that the program never had, its id."""
        told = self._rewards.get(reward_id)
        return reward_id if told is None else told.called(writing.language)

    def rewards(self, writing: Writing) -> list[tuple[str, str]]:
        """Id and name of every reward that there ever was, by name."""
        named = ((each, self.reward(each, writing)) for each in self._rewards)
        return sorted(named, key=lambda each: (each[1].casefold(), each[0]))
