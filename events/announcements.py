"""How a shop's program comes about: its announcements, joined in whatever order they are read.

Rules, policies, holds, expiry and rewards are unions by identity, so that none is lost whoever announced at the same
time; the rest (zone, look-back, grid, translations, locale, batch) is that of the announcement with the greatest
(announced_at, id). What may
be joined is judged where it is read, by the worker, the history sink and whoever announces, by these same functions:
they read one order of records with the same timestamps, and so come to the same program, also in a replay.
"""

from functools import reduce
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from pydantic import ValidationError

from events import codec, instants
from events.envelopes import explain
from events.errors import BadEvent
from events.programs import (
    BEFORE_POLICIES,
    FIRST_POLICY,
    MAX_PROGRAM,
    MAX_RULES,
    MIXED,
    CutPoints,
    Program,
    is_mixed,
)
from events.since import ordered

#: Rules are announced this long before they take effect, so that every worker knows them in time (microseconds).
NOTICE: Final = 15 * instants.MINUTE

#: How long points live, so long before: whoever would lose them can still spend them.
EXPIRY_NOTICE: Final = 30 * instants.DAY


class _Appended(NamedTuple):
    """A field of the program that is only ever appended to, the words for it, and how long ahead."""

    field: str
    all: str
    one: str
    notice: int = NOTICE
    ahead: str = "15 minutes"


_RULES: Final = _Appended("rules", "rules", "a rule")
_POLICIES: Final = _Appended("policies", "policies", "a policy")
_HOLDS: Final = _Appended("holds", "holds", "a hold")
_EXPIRY: Final = _Appended("expiry", "lives of points (expiry)", "a life of points (expiry)", EXPIRY_NOTICE, "30 days")
_REWARDS: Final = _Appended("rewards", "rewards", "a reward")
_APPENDED: Final = (_RULES, _POLICIES, _HOLDS, _EXPIRY, _REWARDS)

#: What a program may say nothing of, and then keeps.
_KEPT: Final = ("policies", "holds", "expiry", "rewards")


def read(key: bytes | None, value: bytes | None, timestamp: int) -> Program:
    """The announcement in a record of `loyalnest.programs`; BadEvent if it is none. `timestamp`: milliseconds.

    Its time is believed as far as the broker's own allows: one of another year would win for ever. What was written
    by hand, without time or id, gets the record's time and an id of what it says.
    """
    program: Program = _model(Program, value)
    if key != program.shop.encode():
        raise BadEvent("wrong_key", "a program's key is its shop: else its announcements have no order")
    arrived = instants.of_kafka(timestamp)
    said = arrived if program.announced_at is None else instants.from_datetime(program.announced_at)
    at = min(max(said, arrived - instants.CLOCK_SKEW), arrived + instants.CLOCK_SKEW)
    named = program.id or uuid5(NAMESPACE_URL, f"loyalnest:program:{tag(program)}")
    return _carried(program.model_copy(update={"announced_at": instants.to_datetime(max(at, 0)), "id": named}))


def read_cut_points(value: bytes | None, timestamp: int) -> CutPoints:
    """The record of `loyalnest.cut-points`; BadEvent if it is none, or of a time that has yet to come."""
    found: CutPoints = _model(CutPoints, value)
    if instants.from_datetime(found.as_of) > instants.of_kafka(timestamp) + instants.CLOCK_SKEW:
        raise BadEvent("future_time", "cut points as of a time that has yet to come")
    return found


def _model(model: Any, value: bytes | None) -> Any:
    try:
        return model.model_validate_json(value or b"")
    except ValidationError as error:
        raise BadEvent("bad_record", explain(error)) from None


def tag(program: Program) -> str:
    """A short name of exactly what the program says: equal ones have equal tags."""
    # What came later and is not said has no part in it: what was announced before keeps its name.
    unsaid = {"locale"} if program.locale is None else set()
    unsaid |= {field for field in ("holds", "expiry", "rewards") if not getattr(program, field)}
    return codec.digest(program.model_dump(mode="json", exclude=unsaid))[:32]


def join(one: Program, other: Program) -> Program:
    """Both at once: commutative, associative, idempotent. ValueError for two shops or two currencies."""
    if (one.shop, one.currency) != (other.shop, other.currency):
        raise ValueError("programs of two shops or two currencies cannot be joined")
    newest = max(one, other, key=_order)
    return newest.model_copy(update={each.field: _union(one, other, each) for each in _APPENDED})


def _order(program: Program) -> tuple[int, str, bytes]:
    """A total order of settings: two that somebody announced under one time and id differ in what they say."""
    said = program.model_dump(mode="json", exclude={each.field for each in _APPENDED})
    at = -1 if program.announced_at is None else instants.from_datetime(program.announced_at)
    return at, str(program.id or ""), codec.dumps(sorted(said.items()))


def _entries(program: Program, kind: _Appended) -> tuple[Any, ...]:
    found: tuple[Any, ...] = getattr(program, kind.field)
    return found


def _union(one: Program, other: Program, kind: _Appended) -> tuple[Any, ...]:
    entries = ordered((*_entries(one, kind), *_entries(other, kind)))
    if kind is _REWARDS:  # any number of them may be there since ever
        return entries
    ever = [entry for entry in entries if entry.effective_from is None]
    return (*ever[-1:], *entries[len(ever) :])  # only what nobody judged has two of them: the one that holds


def accept(known: Program | None, newer: Program) -> Program:
    """The shop's program once `newer` is announced; BadEvent if it may not be.

    The first program may say anything. After it the currency stays, and what is appended is announced before it takes
    effect, by the announcement's own time: expiry EXPIRY_NOTICE before, all else NOTICE. Of policies, holds, expiry and
    rewards a program need not say anything. Expiry stays of its kind.
    """
    if known is None:
        return newer
    if newer.currency != known.currency:
        raise BadEvent("other_currency", "a shop's currency cannot change: its amounts are kept in it")
    for kind in _APPENDED:
        _check_appended(known, newer, kind)
    joined = join(known, newer)
    if max(len(_entries(joined, kind)) for kind in _APPENDED) > MAX_RULES:
        raise BadEvent("too_many_rules", f"a program has at most {MAX_RULES} rules, and as many {_MANY}")
    if is_mixed(joined.expiry):
        raise BadEvent("mixed_expiry", MIXED)
    return _carried(joined)


_MANY: Final = "policies, holds, lives of points and rewards"


def _check_appended(known: Program, newer: Program, kind: _Appended) -> None:
    """BadEvent for what would reach back: since ever, or without notice."""
    there = {*_entries(known, kind)}
    if kind is _POLICIES and not any(policy.effective_from is None for policy in known.policies):
        there.add(BEFORE_POLICIES)  # to say it changes nothing
    at = -1 if newer.announced_at is None else instants.from_datetime(newer.announced_at)
    for entry in _entries(newer, kind):
        if entry in there:
            continue
        if entry.effective_from is None:
            raise BadEvent(
                "rules_rewritten", f"{kind.all} are append-only: what holds since ever stays as it was announced"
            )
        if entry.since < at + kind.notice:
            raise BadEvent("rule_too_soon", f"{kind.one} is announced at least {kind.ahead} before it takes effect")


def _carried(program: Program) -> Program:
    """The program itself; BadEvent if its record would be more than brokers carry."""
    if len(program.model_dump_json().encode()) > MAX_PROGRAM:
        raise BadEvent("too_large", f"a program has at most {MAX_PROGRAM:,} bytes: fewer rewards, or names of them")
    return program


def succeed(known: Program | None, newer: Program) -> Program:
    """As `accept`, for a program that somebody means to be the whole one: it must name all that was appended."""
    for kind in _APPENDED:
        if known is not None and not set(_entries(known, kind)) <= set(_entries(newer, kind)):
            said = f"{kind.all} are append-only: those announced before must stay as they are"
            raise BadEvent("rules_rewritten", said)
    return accept(known, _carried(newer))


def completed(known: Program | None, said: Program) -> Program:
    """The program that somebody means who said nothing of policies, holds, expiry or rewards: those that it has.

    A new shop's first one has the policy that new shops begin with.
    """
    there = {"policies": (FIRST_POLICY,)} if known is None else {field: getattr(known, field) for field in _KEPT}
    return said.model_copy(update={field: kept for field, kept in there.items() if field not in said.model_fields_set})


def fold(announced: list[Program]) -> Program | None:
    """The program that these announcements of one shop come to, in their order; what may not be joined is left out."""
    return reduce(_accept_or_keep, announced, None)


def _accept_or_keep(known: Program | None, newer: Program) -> Program | None:
    try:
        return accept(known, newer)
    except BadEvent:
        return known
