"""Section 3 of the design by brute force: slow, plain, importing nothing of the project.

`oracle(envelopes, programs, cut_points, t)` folds every envelope given, in whatever order, and tells what the
numbers are at t; `until(envelopes, t)` is what a past t may know. Money: minor units. Times: aware, in UTC.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from fractions import Fraction
from functools import cache
from hashlib import sha256
from math import ceil, floor
from typing import Any
from zoneinfo import ZoneInfo

Json = Mapping[str, Any]
SNAPSHOTS = {
    f"orders/{what}" for what in ("create", "paid", "updated", "cancelled", "fulfilled", "partially_fulfilled")
}
CONSENT = "customers_email_marketing_consent/update"
CUSTOMERS = {"customers/create", "customers/update", "customers/delete", CONSENT}
PRIVACY = {"customers/redact", "customers/data_request"}
REQUESTS = ("redeem", "redeem_forced", "deduct", "cancel", "fulfilment", "decision")
ASKED = {f"account/{what}" for what in ("award", *REQUESTS)}
UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)  # a time that nobody knows
DECIMALS = {"CLP": 0, "JPY": 0, "KRW": 0, "VND": 0, "BHD": 3, "JOD": 3, "KWD": 3, "TND": 3}  # else 2
GRID = {  # R: the names for FM 5, 4, 3, 2, 1
    5: ("Champions", "Champions", "Active", "Active", "New"),
    4: ("Loyal", "Loyal", "Active", "Active", "Promising"),
    3: ("Loyal", "Loyal", "Needs attention", "Almost lost", "Almost lost"),
    2: ("Previously loyal", "At risk", "At risk", "Dormant", "Dormant"),
    1: ("Previously loyal", "At risk", "At risk", "Dormant", "Dormant"),
}


@dataclass
class Order:
    now: datetime  # the greatest event time of its envelopes
    ever: set[str]  # the customers it was ever attributed to
    cancelled: bool
    deleted: bool
    refunds: dict[str, int]  # amount by refund id
    # Of the newest snapshot; the rest stays as it is while no snapshot has come.
    customer: str | None = None  # as the snapshot says, by id or else by address
    whose: str | None = None  # whom that is in the end, with all merges
    processed_at: datetime | None = None
    test: bool = False
    status: str | None = None
    counts: bool = False
    guest: bool = False  # would count, but for the missing customer
    net: int = 0  # before asking whether it counts; 0 when refunded
    gross: int = 0
    earned_once: bool = False  # was paid, and is no test
    points: int = 0  # what it deserves: 0 unless it counts
    earned: int = 0
    reversed: int = 0


@dataclass
class Customer:
    now: datetime  # of its own envelopes alone, without any batch's as_of
    balance: int = 0
    deserved: int = 0  # the points of their orders alone
    pending: int = 0
    earned: int = 0  # ever, spent since or not
    spent: int = 0
    expired: int = 0
    expired_on: Counter[str] = field(default_factory=Counter)  # of that, by day of the shop's zone
    expiring: int = 0  # what runs out next, and when
    expires_at: datetime | None = None
    recency: int | None = None  # days
    frequency: int = 0
    monetary: int = 0
    digits: tuple[int, int, int] | None = None
    score: str = ""
    segment_id: str = "seg_000"
    segment: str = "Prospects"
    version: str = "default"  # of the cut points in use
    last_order_at: datetime | None = None  # the latest order inside the look-back with net > 0
    reach: "Reach" = field(default_factory=lambda: Reach())
    merged_into: str | None = None


@dataclass
class Reach:
    """What a customer told of themselves, as sealed, and when; without an address, when they took it away."""

    contact: str | None = None
    contact_at: datetime | None = None
    consent: str | None = None
    consent_at: datetime | None = None  # none of a consent whose time nobody knows
    by_order: bool = False  # the consent is what an order's buyer agreed to
    gone: bool = False


@dataclass
class Award:
    """Points that somebody gave or took."""

    at: datetime
    points: int
    earned: bool  # whether they count as earned
    customer: str
    active: bool  # whether points were given or redeemed, be it that they were taken back or returned
    whose: str | None = None


@dataclass
class Shop:
    orders: dict[str, Order] = field(default_factory=dict)
    customers: dict[str, Customer] = field(default_factory=dict)  # the known customers
    awards: dict[tuple[str, str], Award] = field(default_factory=dict)  # by customer and name
    redemptions: dict[tuple[str, str], "Redemption"] = field(default_factory=dict)  # likewise
    cut_points: dict[str, Any] = field(default_factory=dict)  # as a batch as of t finds them
    windows: dict[tuple[str, datetime], Counter[str]] = field(default_factory=dict)  # by size and start


@cache
def moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no offset")
    return at.astimezone(UTC)


def event_time(envelope: Json) -> datetime:
    return min(moment(envelope["triggered_at"]), moment(envelope["received_at"]) + timedelta(minutes=5))


def until(envelopes: Iterable[Json], t: datetime) -> list[Json]:
    return [envelope for envelope in envelopes if moment(envelope["triggered_at"]) <= t]


def minor(amount: Any, currency: str) -> int:
    if isinstance(amount, float):
        raise TypeError("a float never touches money")
    return units_of(str(amount), DECIMALS.get(currency, 2))


@cache
def units_of(amount: str, decimals: int) -> int:
    units = Fraction(amount) * 10**decimals
    if units.denominator != 1:
        raise ValueError(f"{amount} is finer than {decimals} decimals")
    return int(units)


def money(holder: Json, name: str, currency: str) -> int | None:
    """The shop's money of `name_set`, else the plain `name`, else None."""
    shop_money = (holder.get(f"{name}_set") or {}).get("shop_money")
    if shop_money and shop_money["currency_code"] != currency:
        raise ValueError(f"{shop_money['currency_code']} is not the shop's currency")
    amount = shop_money["amount"] if shop_money else holder.get(name)
    return None if amount is None else minor(amount, currency)


def refund_amount(refund: Json, currency: str) -> int:
    """What goods were given back."""
    total = 0
    for row in refund["refund_line_items"]:
        line = row.get("line_item") or {}
        subtotal = money(row, "subtotal", currency)
        if line.get("gift_card"):
            continue
        if subtotal is None:
            discount = minor(line.get("total_discount") or 0, currency) * row["quantity"] // line["quantity"]
            subtotal = minor(line["price"], currency) * row["quantity"] - discount
        total += subtotal
    return total


def if_readable(holder: Json, name: str, currency: str) -> int | None:
    """As `money`, of what an order can do without."""
    try:
        return money(holder, name, currency)
    except ValueError:
        return None


def told_of_refund(refund: Json, currency: str) -> dict[str, Any]:
    """Everything that one copy of a refund says."""
    lines = refund["refund_line_items"]
    goods = [row for row in lines if not (row.get("line_item") or {}).get("gift_card")]
    cards = sum(if_readable(row, "subtotal", currency) or 0 for row in lines if row not in goods)
    adjustments = [
        if_readable(each, "amount", currency) or 0
        for each in refund.get("order_adjustments") or []
        if (each.get("kind") or each.get("reason") or "").lower().replace(" ", "_") == "refund_discrepancy"
    ]
    paid: int | None = None
    if refund.get("transactions") is not None:
        back = [
            each
            for each in refund["transactions"]
            if (each["kind"].lower(), each["status"].lower()) == ("refund", "success")
        ]
        amounts = [if_readable(each, "amount", currency) for each in back]
        if all(each.get("currency") in (None, currency) for each in back) and None not in amounts:
            paid = max(0, sum(amount for amount in amounts if amount is not None) - cards)
    return {
        "created_at": moment(refund["created_at"]),
        "goods": refund_amount(refund, currency),
        "tax": sum(if_readable(row, "total_tax", currency) or 0 for row in goods),
        "goodwill": max(0, -sum(adjustments)),
        "paid": paid,
    }


def taken_by_refund(told: Mapping[str, Any], how: str) -> int:
    goods: int = told["goods"]
    goodwill: int = told["goodwill"]
    paid: int | None = told["paid"]
    if how == "goods":
        return goods
    if how == "money" and paid is not None:
        return paid
    return goods + goodwill


def half_up(amount: Fraction) -> int:
    return floor(amount + Fraction(1, 2))


def tax_of_goods(snapshot: Json, worth: int, placed: int, refunds: list[Json], currency: str) -> tuple[int, int]:
    """The tax in the goods' prices, as they are worth now and as they were placed."""
    if snapshot.get("taxes_included") is not True:
        return 0, 0
    lines = [line for line in snapshot.get("line_items") or [] if not line.get("gift_card")]
    if not any(line.get("tax_lines") is not None for line in lines):
        whole = if_readable(snapshot, "total_tax", currency) or 0
        return half_up(Fraction(whole * max(0, worth), placed)) if placed else 0, whole
    taxes = [sum(if_readable(tax, "price", currency) or 0 for tax in line.get("tax_lines") or []) for line in lines]
    left = 0
    for line, tax in zip(lines, taxes, strict=True):
        pieces = line["quantity"] if line.get("current_quantity") is None else line["current_quantity"]
        left += half_up(Fraction(tax * pieces, line["quantity"])) if line["quantity"] else 0
    if any(line.get("current_quantity") is None for line in lines):
        left = sum(taxes) - sum(told_of_refund(refund, currency)["tax"] for refund in refunds)
    return max(0, left), sum(taxes)


def policy_of(at: datetime, program: Json) -> tuple[str, str]:
    ever = moment("0001-01-01T00:00:00Z")
    policies = [(ever, "", "goods", "as_priced")]
    for each in program.get("policies", ()):
        since = moment(each["effective_from"]) if each["effective_from"] else ever
        policies.append((since, "said", each["refunds"], each["taxes"]))
    _, _, refunds, taxes = max(policy for policy in policies if policy[0] <= at)
    return refunds, taxes


def gift_cards(snapshot: Json, quantity: str, currency: str) -> int:
    total = 0
    for line in snapshot.get("line_items") or []:
        if line.get("gift_card"):
            if line.get("discount_allocations"):
                discount = sum(money(d, "amount", currency) or 0 for d in line["discount_allocations"])
            else:
                discount = minor(line.get("total_discount") or 0, currency)
            pieces = line["quantity"] if line.get(quantity) is None else line[quantity]
            total += max(0, (money(line, "price", currency) or 0) * pieces - discount)
    return total


def points_of(amount: int, at: datetime, program: Json) -> int:
    ever = moment("0001-01-01T00:00:00Z")
    rules = [
        (moment(rule["effective_from"]) if rule["effective_from"] else ever, Fraction(rule["points_per_unit"]))
        for rule in program["rules"]
    ]
    if ever not in dict(rules):
        rules.append((ever, Fraction(1)))  # version 0
    _, rate = max(rule for rule in rules if rule[0] <= at)  # of two rules of one moment, the higher
    return min(floor(Fraction(amount, 10 ** DECIMALS.get(program["currency"], 2)) * rate), 10**13)


def customer_of(snapshot: Json) -> str | None:
    customer_id = (snapshot.get("customer") or {}).get("id")
    return snapshot.get("address") if customer_id is None else str(customer_id)


def updated_at(snapshot: Json) -> datetime:
    return moment(snapshot.get("updated_at") or snapshot["created_at"])


def snapshot_key(envelope: Json, currency: str) -> tuple[datetime, datetime, str, str]:
    told_at, place = moment(envelope["triggered_at"]), envelope["webhook_id"]
    return updated_at(envelope["payload"]), told_at, place, digest_of_values(envelope, currency)


def digest_of_values(envelope: Json, currency: str) -> str:
    """Of what is read of a snapshot, as decision 28 lists it."""
    snapshot = envelope["payload"]
    refunds = snapshot.get("refunds") or []
    placed = money(snapshot, "subtotal_price", currency)
    worth = money(snapshot, "current_subtotal_price", currency)
    original = placed if placed is not None else worth or 0
    current = worth if worth is not None else original - sum(refund_amount(refund, currency) for refund in refunds)
    tax, tax_placed = tax_of_goods(snapshot, current, original, refunds, currency)
    since = moment(snapshot.get("processed_at") or snapshot["created_at"]) - datetime(1970, 1, 1, tzinfo=UTC)
    values = [
        customer_of(snapshot),
        (snapshot.get("financial_status") or "unknown").lower(),
        bool(snapshot.get("test")),
        envelope["topic"] == "orders/cancelled" or snapshot.get("cancelled_at") is not None,
        since // timedelta(microseconds=1),
        current,
        gift_cards(snapshot, "current_quantity", currency),
        tax,
        original - gift_cards(snapshot, "quantity", currency),
        tax_placed,
        None if snapshot.get("refunds") is None else sorted(str(refund["id"]) for refund in refunds),
    ]
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()[:16]


def order_of(envelopes: Sequence[Json], program: Json) -> Order:
    """The state of one order, from all of its envelopes."""
    currency = program["currency"]
    snapshots = [e for e in envelopes if e["topic"] in SNAPSHOTS]
    copies = [e["payload"] for e in envelopes if e["topic"] == "refunds/create"]
    copies += [refund for e in snapshots for refund in e["payload"].get("refunds") or []]
    refunds: dict[str, dict[str, Any]] = {}
    for refund in copies:
        told = told_of_refund(refund, currency)
        have = refunds.setdefault(str(refund["id"]), told)
        for name, value in told.items():  # what one copy says and another does not, and of two the greater
            if value is not None and (have[name] is None or value > have[name]):
                have[name] = value
    order = Order(
        now=max(map(event_time, envelopes)),
        ever={customer for e in snapshots if (customer := customer_of(e["payload"])) is not None},
        cancelled=any(e["topic"] == "orders/cancelled" or e["payload"].get("cancelled_at") for e in snapshots),
        deleted=any(e["topic"] == "orders/delete" for e in envelopes),
        refunds={refund_id: told["goods"] for refund_id, told in refunds.items()},
    )
    if not snapshots:
        return order
    newest: Json = max(snapshots, key=lambda told: snapshot_key(told, currency))["payload"]
    if newest["currency"] != currency:
        raise ValueError(f"{newest['currency']} is not the shop's currency")
    order.customer = customer_of(newest)
    order.processed_at = moment(newest.get("processed_at") or newest["created_at"])
    order.test, order.status = bool(newest.get("test")), (newest.get("financial_status") or "").lower()

    own = {str(refund["id"]): refund_amount(refund, currency) for refund in newest.get("refunds") or []}
    if newest.get("refunds") is None:
        later = [told for told in refunds.values() if told["created_at"] > updated_at(newest)]
    else:
        later = [told for refund_id, told in refunds.items() if refund_id not in own]
    original = money(newest, "subtotal_price", currency) or 0
    current = money(newest, "current_subtotal_price", currency)
    if current is None:
        current = original - sum(own.values())
    how, taxes = policy_of(order.processed_at, program)
    goods = current - sum(told["goods"] for told in later) - gift_cards(newest, "current_quantity", currency)
    given = sum(taken_by_refund(told, how) - told["goods"] for told in refunds.values())
    order.net = min(10**13, max(0, goods - given))
    placed = original - gift_cards(newest, "quantity", currency)
    tax, tax_placed = tax_of_goods(newest, current, original, newest.get("refunds") or [], currency)
    if taxes == "excluded":
        tax = max(0, tax - sum(told["tax"] for told in later))
        if goods <= 0:
            goods, tax = max(0, placed), tax_placed
        if goods > 0:
            order.net -= half_up(Fraction(order.net * min(tax, goods), goods))
        placed -= tax_placed
    if order.status == "refunded":
        order.net = 0
    order.gross = max(order.net, placed)

    alive = not (order.test or order.cancelled or order.deleted)
    paid = order.status in ("paid", "partially_paid", "partially_refunded")
    order.counts = alive and paid and order.customer is not None
    order.guest = alive and paid and order.customer is None
    if order.counts:
        order.points = points_of(order.net, order.processed_at, program)
    if order.customer is not None and not order.test and (paid or order.status == "refunded"):
        order.earned_once = True
        order.earned = points_of(order.gross, order.processed_at, program)
    order.reversed = order.earned - order.points
    return order


def awards_of(envelopes: Iterable[Json]) -> dict[tuple[str, str], Award]:
    """By customer and name. Of two of one name the greater stands, and one that was taken back is nothing."""
    bodies: dict[tuple[str, str], list[tuple[Any, ...]]] = defaultdict(list)
    voided = set()
    for envelope in envelopes:
        if envelope["topic"] == "account/award":
            told = envelope["payload"]
            at = min(moment(told["at"]), moment(envelope["received_at"]) + timedelta(minutes=5))
            key = about(envelope), told["award_id"]
            earned = bool(told.get("counts_as_earned"))
            bodies[key].append((at, told["points"], told.get("reason") or "", told.get("source") or "", earned))
            if told.get("voided"):
                voided.add(key)
    found = {}
    for key, several in bodies.items():
        at, points, _, _, earned = max(several)
        found[key] = Award(at, 0 if key in voided else points, earned, key[0], active=points > 0)
    return found


@dataclass
class Redemption:
    """A request that was decided, as the history has it."""

    at: datetime
    cost: int
    accepted: bool
    reward: str | None  # None: points taken by hand, if they are there
    customer: str
    forced: bool = False
    status: str = "refused"
    whose: str | None = None


def redemptions_of(
    envelopes: Iterable[Json], orders: Mapping[str, Order], program: Json
) -> dict[tuple[str, str], Redemption]:
    """By customer and name: what was decided, and what has become of it."""
    found: dict[tuple[str, str], Redemption] = {}
    cancelled: set[tuple[str, str]] = set()
    unused: set[tuple[str, str]] = set()
    made: dict[tuple[str, str], tuple[Any, ...]] = {}
    bear: dict[str, set[str]] = defaultdict(set)  # the orders that ever bore a code
    for envelope in envelopes:
        topic, told = envelope["topic"], envelope["payload"]
        if topic in SNAPSHOTS:
            for each in told.get("discount_codes") or []:
                bear[each["code"].upper()].add(str(told["id"]))
        if topic not in ASKED or topic == "account/award":
            continue
        key = about(envelope), told["request_id"]
        if topic == "account/decision":
            at = moment(told["decided_at"])
            of = told["cost"], told["accepted"], told.get("reward_id"), key[0], told.get("forced", False)
            found[key] = Redemption(at, *of)
        elif topic == "account/cancel":
            (unused if told.get("reason") == "unused" else cancelled).add(key)
        elif topic == "account/fulfilment":
            until = moment(told["valid_until"]) if told.get("valid_until") else datetime(1970, 1, 1, tzinfo=UTC)
            said = told["attempt"], told["state"] == "issued", until, told.get("code") or ""
            made[key] = max(said, made.get(key, said))
    for key, redemption in found.items():
        _, issued, _, code = made.get(key, (0, True, None, ""))
        theirs = [name for name in bear[code.upper()] if code and redemption.customer in orders[name].ever]
        theirs = sorted(theirs, key=int, reverse=True)[:2]
        used = [orders[name] for name in theirs if orders[name].customer == redemption.customer]
        rewards = [each for each in program.get("rewards", ()) if each["reward_id"] == redemption.reward]
        void = any(order.earned_once and not order.counts for order in used)
        if not redemption.accepted:
            redemption.status = "refused"
        elif redemption.reward is None:
            redemption.status = "returned" if key in cancelled | unused else "taken"
        elif any(order.counts for order in used):
            redemption.status = "used"
        elif key in cancelled or not issued:
            redemption.status = "returned"
        elif void:
            redemption.status = "used" if rewards and rewards[-1].get("on_void") == "keep" else "returned"
        elif key in unused:
            redemption.status = "returned"
        else:
            redemption.status = "issued" if key in made or redemption.forced else "reserved"
    return found


def spans(program: Json, name: str, length: str, ever: Any) -> list[tuple[datetime, Any, str]]:
    """From when each hold, or life, is in force, and how long it is; before the first of them `ever`."""
    beginning = datetime(1, 1, 2, tzinfo=UTC)
    found = {beginning: (ever, "day")}
    said = program.get(name, ())
    for each in sorted(
        said, key=lambda each: (each.get(length) is None, each.get(length) or 0, each.get("calendar", ""))
    ):
        since = moment(each["effective_from"]) if each["effective_from"] else beginning
        found[since] = each.get(length), each.get("calendar", "day")
    return [(since, *told) for since, told in sorted(found.items())]


def spendable_from(earned_at: datetime, program: Json) -> datetime:
    ends = []
    holds = spans(program, "holds", "hold_days", 0)
    for at, (since, days, _) in enumerate(holds):
        in_force = since <= earned_at and (at + 1 == len(holds) or earned_at < holds[at + 1][0])
        if in_force or since > earned_at:
            ends.append((earned_at if in_force else since) + timedelta(days=days))
    return min(ends)


def runs_out(earned_at: datetime, program: Json) -> datetime | None:
    return life_ends(spendable_from(earned_at, program), program, "life_days")


def life_ends(begun: datetime, program: Json, length: str) -> datetime | None:
    ends, zone = [], ZoneInfo(program["zone"])
    lives = spans(program, "expiry", length, None)
    for at, (since, days, calendar) in enumerate(lives):
        in_force = since <= begun and (at + 1 == len(lives) or begun < lives[at + 1][0])
        if days is not None and (in_force or since > begun):
            day = ((begun if in_force else since) + timedelta(days=days)).astimezone(zone).date()
            next_day = day + timedelta(days=1) if calendar == "day" else day.replace(day.year + 1, 1, 1)
            ends.append(datetime.combine(next_day, time(), zone).astimezone(UTC))
    return min(ends, default=None)


def spend(
    customer: Customer,
    lots: list[tuple[datetime, int]],
    debits: list[tuple[datetime, int]],
    at: datetime,
    program: Json,
) -> None:
    """A customer's points at a time, lot by lot: the oldest is spent first, and what is owed is paid before all."""
    happened: list[tuple[datetime, int, int, int]] = []  # when; running out, then becoming spendable, then being taken
    for which, (earned_at, points) in enumerate(lots):
        if earned_at <= at:
            ends = runs_out(earned_at, program)
            happened.append((spendable_from(earned_at, program), 1, which, points))
            if ends is not None:
                happened.append((ends, 0, which, 0))
            customer.pending += points
    happened += [(taken_at, 2, -1, points) for taken_at, points in debits if taken_at <= at]
    left: dict[int, int] = {}
    for when, what, which, points in sorted(happened):
        if when > at:
            continue
        if what == 0:
            gone = left.pop(which, 0)
            customer.expired += gone
            customer.expired_on[when.astimezone(ZoneInfo(program["zone"])).date().isoformat()] += gone
        elif what == 1:
            customer.pending -= points
            left[which] = points
        else:
            customer.spent += points
            left[-1] = left.get(-1, 0) - points  # what is owed
        for lot in sorted((each for each in left if each >= 0), key=lambda each: lots[each][0]):
            paid = min(left[lot], -left.get(-1, 0))
            left[lot] -= paid
            left[-1] = left.get(-1, 0) + paid
    customer.balance = sum(left.values())
    owed = -left.get(-1, 0)
    waiting = sorted(which for which, (earned_at, _) in enumerate(lots) if earned_at <= at)
    waiting = [which for which in waiting if which in left or spendable_from(lots[which][0], program) > at]
    ending: list[tuple[datetime, int]] = []
    for which in sorted(waiting, key=lambda each: lots[each][0]):
        rest = left.get(which, lots[which][1])
        paid = min(rest, owed) if which not in left else 0
        owed -= paid
        ends = runs_out(lots[which][0], program)
        if ends is not None and rest - paid:
            ending.append((ends, rest - paid))
    if ending:
        customer.expires_at = min(ends for ends, _ in ending)
        customer.expiring = sum(points for ends, points in ending if ends == customer.expires_at)


def by_inactivity(program: Json) -> bool:
    return any("inactive_days" in each for each in program.get("expiry", ()))


def idle(
    customer: Customer,
    lots: list[tuple[datetime, int]],
    debits: list[tuple[datetime, int]],
    active: list[datetime],
    at: datetime,
    program: Json,
) -> None:
    """A customer's points at a time, where all that can be spent is lost once nothing has happened for so long."""
    gains = [(spendable_from(earned_at, program), points) for earned_at, points in lots if earned_at <= at]
    losses = [(taken_at, points) for taken_at, points in debits if taken_at <= at]
    happened = [(when, 1, points) for when, points in gains] + [(when, 2, -points) for when, points in losses]
    happened += [(when, 3, 0) for when in active if when <= at]
    ends = None
    for when, what, points in [*sorted(each for each in happened if each[0] <= at), (at, 4, 0)]:
        if ends is not None and ends <= when:
            gone = max(0, customer.balance)
            customer.expired += gone
            customer.expired_on[ends.astimezone(ZoneInfo(program["zone"])).date().isoformat()] += gone
            customer.balance, ends = min(0, customer.balance), None
        customer.balance += points
        if what == 3:
            ends = life_ends(when, program, "inactive_days")
    customer.spent = sum(points for _, points in losses)
    customer.pending = sum(points for when, points in gains if when > at)
    if ends is not None:
        then = customer.balance + sum(points for when, points in gains if at < when < ends)
        if then > 0:
            customer.expiring, customer.expires_at = then, ends


def measure(customer: Customer, orders: list[Order], awards: list[Award], at: datetime, program: Json) -> None:
    """The points and the three values of a customer at a time, from the orders and awards that are theirs now."""
    look_back_days = program["look_back_days"]
    lots = [(order.processed_at, order.points) for order in orders if order.processed_at is not None]
    lots += [(award.at, award.points) for award in awards if award.points > 0]
    debits = [(award.at, -award.points) for award in awards if award.points < 0]
    if by_inactivity(program):
        active = [each.processed_at for each in orders if each.processed_at and (each.counts or each.earned)]
        active += [award.at for award in awards if award.active]
        idle(customer, lots, debits, active, at, program)
    else:
        spend(customer, sorted(lots), debits, at, program)
    customer.deserved = sum(order.points for order in orders if order.processed_at and order.processed_at <= at)
    customer.earned = customer.deserved + sum(
        award.points for award in awards if award.earned and award.points > 0 and award.at <= at
    )
    for order in orders:
        assert order.processed_at is not None
        if order.processed_at > at:
            continue
        old = look_back_days is not None and order.processed_at <= at - timedelta(days=look_back_days)
        if order.counts and order.net > 0 and not old:
            customer.frequency += 1
            customer.monetary += order.net
            customer.last_order_at = max(customer.last_order_at or order.processed_at, order.processed_at)
            customer.recency = (at - customer.last_order_at) // timedelta(days=1)


def default_cut_points(currency: str) -> dict[str, Any]:
    monetary = [minor(amount, currency) for amount in (50, 100, 250, 500)]
    days = [30, 60, 90, 180]
    return {"version": "default", "recency": days, "frequency": [1, 2, 4, 8], "monetary": monetary}


def find_cut_points(customers: Iterable[Customer], currency: str) -> dict[str, Any]:
    scored = [customer for customer in customers if customer.recency is not None]
    n = len(scored)
    if n < 50:
        return default_cut_points(currency)
    found: dict[str, Any] = {"version": None}
    for metric in ("recency", "frequency", "monetary"):
        values = sorted(getattr(customer, metric) for customer in scored)
        found[metric] = [values[ceil(Fraction(k * n, 5)) - 1] for k in (1, 2, 3, 4)]
    return found


def score(customer: Customer, at: datetime, cut_points: Sequence[Json], currency: str) -> None:
    used: Json = default_cut_points(currency)
    for published in sorted(cut_points, key=lambda c: moment(c["as_of"])):
        if moment(published["as_of"]) <= at:
            used = published
    customer.version = used["version"]
    if customer.recency is None:
        return
    r = 5 - sum(cut < customer.recency for cut in used["recency"])
    f = 1 + sum(cut < customer.frequency for cut in used["frequency"])
    m = 1 + sum(cut < customer.monetary for cut in used["monetary"])
    tenths = 4 * r + 3 * f + 3 * m  # exactly one decimal: nothing is left to round
    customer.digits, customer.score = (r, f, m), f"{tenths // 10}.{tenths % 10}"
    customer.segment_id, customer.segment = f"seg_{r}{f}{m}", GRID[r][5 - (f + m + 1) // 2]


def about(envelope: Json) -> str:
    """The customer of a webhook of theirs."""
    payload = envelope["payload"]
    if envelope["topic"] in PRIVACY:
        customer = (payload.get("customer") or {}).get("id")
    else:
        customer = payload.get("customer_id" if envelope["topic"] in {CONSENT, *ASKED} else "id")
    return str(payload["address"] if customer is None else customer)


def reached(envelopes: Iterable[Json]) -> Reach:
    """A customer's address and consent, as sealed: each as told last, and an order's address only without their own."""
    own: list[tuple[Any, ...]] = []  # when, its webhook, the sealed address, or "" where there is none any more
    ordered: list[tuple[Any, ...]] = []
    agreed: list[tuple[datetime, str]] = []
    consents: list[tuple[Any, ...]] = []
    for e in envelopes:
        payload, latest = e["payload"], moment(e["received_at"]) + timedelta(minutes=5)
        triggered_at = moment(e["triggered_at"])
        if e["topic"] in SNAPSHOTS:
            placed_at = min(moment(payload.get("processed_at") or payload["created_at"]), moment(payload["created_at"]))
            placed_at = min(placed_at, latest)
            if payload.get("contact"):
                ordered.append((placed_at, updated_at(payload), payload["contact"]))
            if payload.get("consent"):
                agreed.append((placed_at, payload["consent"]))
        elif e["topic"] in ("customers/delete", "customers/redact"):
            return Reach(gone=True)
        elif e["topic"] in CUSTOMERS:
            at = payload.get("updated_at") or payload.get("created_at") or e["triggered_at"]
            if "contact" in payload:
                own.append((moment(at), triggered_at, e["webhook_id"], payload["contact"] or ""))
            if payload.get("consent"):
                given = min(moment(payload.get("consent_at") or at), latest)
                consents.append((given, triggered_at, e["webhook_id"], payload["consent"]))
    found = Reach()
    addresses = own if any(each[-1] for each in own) else ordered
    if addresses:
        newest = max(addresses)
        found.contact, found.contact_at = newest[-1] or None, newest[0]
    consent: tuple[Any, ...] | None = max(consents, default=None)
    order = max(agreed, default=None)
    # Of a consent whose time nobody knows (1970), no order is known to be newer.
    if order and (consent is None or UNKNOWN < consent[0] < order[0]):
        consent, found.by_order = order, True
    if consent:
        found.consent, found.consent_at = consent[-1], consent[0] if consent[0] > UNKNOWN else None
    return found


def person(shop: Shop, customer_id: str, opened: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Address and consent of a customer who is themselves, with all who are they; `opened` reads what is sealed.

    The address is their own, unless they never had one: then the newest of the others'. An agreement of an order's
    buyer is out where nobody knows how new what was said otherwise is. Of the rest the newest stands, not by an order
    before by an order, and what forbids before what allows.
    """
    mine = shop.customers[customer_id].reach
    others = [
        each.reach for name, each in shop.customers.items() if name != customer_id and end(shop, name) == customer_id
    ]
    if mine.gone:
        return None, None
    address = opened[mine.contact] if mine.contact else None
    if address is None and mine.contact_at is None:
        told = [(each.contact_at or UNKNOWN, opened[each.contact]) for each in others if each.contact]
        address = max(told)[1] if told else None
    said = [each for each in (mine, *others) if each.consent]
    own = [each.consent_at or UNKNOWN for each in said if not each.by_order]
    if own and max(own) == UNKNOWN:
        said = [each for each in said if not each.by_order]
    keys = []
    for each in said:
        word = opened[each.consent or ""]
        keys.append((each.consent_at or UNKNOWN, not each.by_order, word != "subscribed", word))
    return address, max(keys)[-1] if keys else None


def end(shop: Shop, customer_id: str) -> str:
    """Who a customer is in the end."""
    into = shop.customers[customer_id].merged_into if customer_id in shop.customers else None
    return customer_id if into is None else end(shop, into)


def window_starts(at: datetime, zone: str) -> list[tuple[str, datetime]]:
    hour = at.replace(minute=0, second=0, microsecond=0)
    day = datetime.combine(at.astimezone(ZoneInfo(zone)).date(), time(), ZoneInfo(zone)).astimezone(UTC)
    return [("minute", at.replace(second=0, microsecond=0)), ("hour", hour), ("day", day)]


def windows_of(
    orders: Iterable[Order], awards: Iterable[Award], redemptions: Iterable["Redemption"], zone: str
) -> dict[tuple[str, datetime], Counter[str]]:
    windows: dict[tuple[str, datetime], Counter[str]] = defaultdict(Counter)
    customers: dict[tuple[str, datetime], set[str]] = defaultdict(set)
    for order in orders:
        for key in window_starts(order.processed_at, zone) if order.processed_at else []:
            windows[key]["points_earned"] += order.earned
            windows[key]["points_reversed"] += order.reversed
            if order.counts and order.customer is not None:
                windows[key]["orders"] += 1
                windows[key]["net"] += order.net
                customers[key].add(order.whose or order.customer)
                windows[key]["customers"] = len(customers[key])
            if order.guest:
                windows[key]["guest_orders"] += 1
                windows[key]["guest_net"] += order.net
    for award in awards:
        for key in window_starts(award.at, zone):
            windows[key]["points_awarded"] += award.points
    for redemption in redemptions:
        if redemption.status not in ("refused", "returned"):
            name, points = "points_redeemed", redemption.cost
            if redemption.reward is None:
                name, points = "points_awarded", -redemption.cost
            for key in window_starts(redemption.at, zone):
                windows[key][name] += points
    told = {key: Counter({name: value for name, value in window.items() if value}) for key, window in windows.items()}
    return {key: window for key, window in told.items() if window}


def order_id_of(envelope: Json) -> str | None:
    payload, topic = envelope["payload"], envelope["topic"]
    if topic in SNAPSHOTS or topic == "orders/delete":
        return str(payload["id"])
    if topic in ("refunds/create", "orders/edited"):
        return str((payload.get("order_edit") or payload)["order_id"])
    return None


def digits(gid: str) -> str:
    return gid.rpartition("/")[2]


@dataclass
class Identity:
    """Who is whom: every link there ever was, and of each customer the one that holds."""

    ever: set[tuple[str, str]] = field(default_factory=set)
    into: dict[str, str] = field(default_factory=dict)

    def end(self, customer: str) -> str:
        while customer in self.into:
            customer = self.into[customer]
        return customer


def identity_of(envelopes: Iterable[Json]) -> Identity:
    """A completed merge leads from the deleted customer to the kept one, the newest holds, unless they were kept later;
    an address leads to the lowest id that was seen with it."""
    found = Identity()
    merges: dict[str, list[tuple[datetime, str, str]]] = defaultdict(list)
    kept_at: dict[str, tuple[datetime, str]] = {}
    claims: dict[str, set[str]] = defaultdict(set)
    for envelope in envelopes:
        payload, topic = envelope["payload"], envelope["topic"]
        if topic == "customers/merge" and (payload.get("status") or "").lower() == "completed":
            kept = digits(payload["admin_graphql_api_customer_kept_id"])
            deleted = digits(payload["admin_graphql_api_customer_deleted_id"])
            tie = sha256(f"{envelope['webhook_id']}/{kept}".encode()).hexdigest()[:8]
            when = moment(envelope["triggered_at"]), tie
            if kept != deleted:
                merges[deleted].append((*when, kept))
                kept_at[kept] = max(kept_at.get(kept, when), when)
        customer = about(envelope) if topic in CUSTOMERS else customer_of(payload) if topic in SNAPSHOTS else None
        if customer and payload.get("address") and not customer.startswith("mail-"):
            claims[payload["address"]].add(customer)
    for address, customers in claims.items():
        found.ever |= {(address, customer) for customer in customers}
        found.into[address] = min(customers, key=int)
    for deleted, several in merges.items():
        found.ever |= {(deleted, kept) for _, _, kept in several}
        at, tie, kept = max(several)
        if deleted not in kept_at or (at, tie) > kept_at[deleted]:
            found.into[deleted] = kept
    return found


def orders_of(envelopes: list[Json], program: Json) -> dict[str, Order]:
    of_order: dict[str, list[Json]] = defaultdict(list)
    for envelope in envelopes:
        if (order_id := order_id_of(envelope)) is not None:
            of_order[order_id].append(envelope)
    return {order_id: order_of(found, program) for order_id, found in of_order.items()}


def shop_of(
    envelopes: list[Json], program: Json, cut_points: Sequence[Json], t: datetime | None, known: Shop | None
) -> Shop:
    shop = Shop()
    shop.orders = orders_of(envelopes, program) if known is None else known.orders

    seen = [(about(e), event_time(e)) for e in envelopes if e["topic"] in CUSTOMERS | {"account/award"}]
    seen += [(customer_id, order.now) for order in shop.orders.values() for customer_id in order.ever]
    for customer_id, at in seen:
        somebody = shop.customers.setdefault(customer_id, Customer(now=at))
        somebody.now = max(somebody.now, at)
    for envelope in envelopes:
        if envelope["topic"] in PRIVACY | ASKED:  # an event of whoever is known, but it makes nobody known
            found = shop.customers.get(about(envelope))
            if found is not None:
                found.now = max(found.now, event_time(envelope))

    of_customer: dict[str | None, list[Json]] = defaultdict(list)
    for envelope in envelopes:
        if envelope["topic"] in SNAPSHOTS:
            of_customer[customer_of(envelope["payload"])].append(envelope)
        elif envelope["topic"] in CUSTOMERS | PRIVACY:
            of_customer[about(envelope)].append(envelope)
    identity = identity_of(envelopes)
    times = {customer_id: customer.now for customer_id, customer in shop.customers.items()}
    for envelope in envelopes:
        if envelope["topic"] in PRIVACY | ASKED:
            customer_id = about(envelope)
            times[customer_id] = max(times.get(customer_id, event_time(envelope)), event_time(envelope))
        if envelope["topic"] == "customers/merge" and (envelope["payload"].get("status") or "").lower() == "completed":
            kept = digits(envelope["payload"]["admin_graphql_api_customer_kept_id"])
            deleted = digits(envelope["payload"]["admin_graphql_api_customer_deleted_id"])
            if kept != deleted:
                shop.customers.setdefault(kept, Customer(now=event_time(envelope)))
                for one in (kept, deleted):
                    times[one] = max(times.get(one, event_time(envelope)), event_time(envelope))
    for _ in times.keys() | {into for _, into in identity.ever}:  # what time it is one tells the other, on and on
        for customer_id, into in identity.ever:
            if customer_id in times:
                times[into] = max(times.get(into, times[customer_id]), times[customer_id])
    for customer_id, customer in shop.customers.items():
        customer.now = times[customer_id]
        customer.merged_into = identity.into.get(customer_id)

    theirs: dict[str, list[Order]] = defaultdict(list)
    for order in shop.orders.values():
        if order.customer is not None:
            order.whose = identity.end(order.customer)
            theirs[order.whose].append(order)
    given: dict[str, list[Award]] = defaultdict(list)
    shop.redemptions = redemptions_of(envelopes, shop.orders, program)
    for redemption in shop.redemptions.values():
        redemption.whose = identity.end(redemption.customer)
        if redemption.accepted:
            taken = redemption.cost if redemption.status in ("reserved", "issued", "used", "taken") else 0
            active = redemption.reward is not None
            given[redemption.whose].append(Award(redemption.at, -taken, False, redemption.customer, active=active))
    for (customer_id, award_id), award in awards_of(envelopes).items():
        award.whose = identity.end(customer_id)
        given[award.whose].append(award)
        shop.awards[customer_id, award_id] = award
    for customer_id, customer in shop.customers.items():
        measure(customer, theirs[customer_id], given[customer_id], t or customer.now, program)
        score(customer, t or customer.now, cut_points, program["currency"])
        customer.reach = reached(of_customer[customer_id])
    if t is not None:
        shop.cut_points = find_cut_points(shop.customers.values(), program["currency"])  # who is merged has no values
    beside = shop.awards.values(), shop.redemptions.values()
    shop.windows = windows_of(shop.orders.values(), *beside, program["zone"]) if known is None else known.windows
    return shop


def oracle(
    envelopes: Sequence[Json],
    programs: Mapping[str, Json],
    cut_points: Mapping[str, Sequence[Json]] | None = None,
    t: datetime | None = None,
    known: Mapping[str, Shop] | None = None,
) -> dict[str, Shop]:
    """By shop, everything that section 3 gives a number to.

    `programs`: by shop, {currency, zone, look_back_days or None, rules: [{effective_from, points_per_unit}]}, and
    perhaps policies: [{effective_from, refunds, taxes}], holds: [{effective_from, hold_days}] and expiry:
    [{effective_from, life_days, calendar}], or of inactivity [{effective_from, inactive_days}].
    `cut_points`: by shop, [{version, as_of, recency, frequency, monetary}], money in minor units.
    `known`: what it said of the same envelopes and programs before, of other cut points or another time: orders and
    windows know of neither, and are taken over.
    `t`: when to measure customers; without it each is measured at its own now, and no cut points are found.
    Windows hold every order, also one processed after t. ValueError at what ought to be a dead letter.
    """
    shops = {}
    for name, program in programs.items():
        of_shop = [envelope for envelope in envelopes if envelope["shop"] == name]
        shops[name] = shop_of(of_shop, program, (cut_points or {}).get(name, ()), t, (known or {}).get(name))
    return shops
