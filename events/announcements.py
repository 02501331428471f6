"""How a shop's program comes about: its announcements, joined in whatever order they are read.

Rules and policies are unions by identity, so that none is lost whoever announced at the same time; the rest (zone,
look-back, grid, translations, locale, batch) is that of the announcement with the greatest (announced_at, id). What may
be joined is judged where it is read, by the worker, the history sink and whoever announces, by these same functions:
they read one order of records with the same timestamps, and so come to the same program, also in a replay.
"""

from functools import reduce
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from pydantic import ValidationError

from events import codec, instants
from events.envelopes import explain
from events.errors import BadEvent
from events.programs import (
    BEFORE_POLICIES,
    FIRST_POLICY,
    MAX_RULES,
    CutPoints,
    Policy,
    Program,
    Rule,
    ordered,
    ordered_policies,
)

#: Rules are announced this long before they take effect, so that every worker knows them in time (microseconds).
NOTICE: Final = 15 * instants.MINUTE


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
    return program.model_copy(update={"announced_at": instants.to_datetime(max(at, 0)), "id": named})


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
    return codec.digest(program.model_dump(mode="json", exclude=unsaid))[:32]


def join(one: Program, other: Program) -> Program:
    """Both at once: commutative, associative, idempotent. ValueError for two shops or two currencies."""
    if (one.shop, one.currency) != (other.shop, other.currency):
        raise ValueError("programs of two shops or two currencies cannot be joined")
    newest = max(one, other, key=_order)
    return newest.model_copy(update={"rules": _union(one, other), "policies": _union_of_policies(one, other)})


def _order(program: Program) -> tuple[int, str, bytes]:
    """A total order of settings: two that somebody announced under one time and id differ in what they say."""
    said = program.model_dump(mode="json", exclude={"rules", "policies"})
    at = -1 if program.announced_at is None else instants.from_datetime(program.announced_at)
    return at, str(program.id or ""), codec.dumps(sorted(said.items()))


def _union(one: Program, other: Program) -> tuple[Rule, ...]:
    rules = ordered((*one.rules, *other.rules))
    ever = [rule for rule in rules if rule.effective_from is None]
    return (ever[-1], *rules[len(ever) :])  # only what nobody judged has two of them: the higher


def _union_of_policies(one: Program, other: Program) -> tuple[Policy, ...]:
    policies = ordered_policies((*one.policies, *other.policies))
    ever = [policy for policy in policies if policy.effective_from is None]
    return (*ever[-1:], *policies[len(ever) :])  # as of rules; a program may have none


def accept(known: Program | None, newer: Program) -> Program:
    """The shop's program once `newer` is announced; BadEvent if it may not be.

    The first program may say anything. After it the currency stays, and a rule or policy is announced NOTICE before it
    takes effect, by the announcement's own time. A program without policies says nothing of them.
    """
    if known is None:
        return newer
    if newer.currency != known.currency:
        raise BadEvent("other_currency", "a shop's currency cannot change: its amounts are kept in it")
    at = -1 if newer.announced_at is None else instants.from_datetime(newer.announced_at)
    for rule in set(newer.rules) - set(known.rules):
        if rule.effective_from is None:
            raise BadEvent("rules_rewritten", "rules are append-only: the one since ever stays as it was announced")
        if rule.since < at + NOTICE:
            raise BadEvent("rule_too_soon", "a rule is announced at least 15 minutes before it takes effect")
    ever = next((policy for policy in known.policies if policy.effective_from is None), BEFORE_POLICIES)
    for policy in set(newer.policies) - {ever, *known.policies}:
        if policy.effective_from is None:
            raise BadEvent("rules_rewritten", "policies are append-only: the one since ever stays as it was announced")
        if policy.since < at + NOTICE:
            raise BadEvent("rule_too_soon", "a policy is announced at least 15 minutes before it takes effect")
    joined = join(known, newer)
    if max(len(joined.rules), len(joined.policies)) > MAX_RULES:
        raise BadEvent("too_many_rules", f"a program has at most {MAX_RULES} rules, and as many policies")
    return joined


def succeed(known: Program | None, newer: Program) -> Program:
    """As `accept`, for a program that somebody means to be the whole one: it must name all rules and policies."""
    if known is not None and not set(known.rules) <= set(newer.rules):
        raise BadEvent("rules_rewritten", "rules are append-only: those announced before must stay as they are")
    if known is not None and not set(known.policies) <= set(newer.policies):
        raise BadEvent("rules_rewritten", "policies are append-only: those announced before must stay as they are")
    return accept(known, newer)


def completed(known: Program | None, said: Program) -> Program:
    """The program that somebody means who said nothing of policies: a new shop's first one, or those that it has."""
    if "policies" in said.model_fields_set:
        return said
    return said.model_copy(update={"policies": (FIRST_POLICY,) if known is None else known.policies})


def fold(announced: list[Program]) -> Program | None:
    """The program that these announcements of one shop come to, in their order; what may not be joined is left out."""
    return reduce(_accept_or_keep, announced, None)


def _accept_or_keep(known: Program | None, newer: Program) -> Program | None:
    try:
        return accept(known, newer)
    except BadEvent:
        return known
