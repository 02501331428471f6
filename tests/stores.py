"""Small adversarial stores for tests: everything that can go wrong with an order, in few orders and moments.

`store(seed)` gives one shop's envelopes as they stand on Kafka, JSON-serialisable, with no personal data. The
events fall on at most `moments` instants up to NOW: ties are the rule. Orders are processed at the edges of
a 365-day look-back from NOW, of minutes, hours and days, and in the future.
"""

import copy
import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

Json = dict[str, Any]

SHOP = "adverse.myshopify.com"
ZONE = "America/New_York"  # its clocks go back on the day of NOW, which has 25 hours there
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
MOMENTS = [
    NOW - timedelta(hours=2),
    NOW - timedelta(hours=1),
    NOW,
    NOW - DAY,
    NOW - 20 * DAY,
    NOW - 366 * DAY,
]
PROCESSED = [
    *(NOW - 365 * DAY + late * SECOND for late in (-1, 0, 1)),
    *(NOW - 30 * DAY + late * SECOND for late in (0, 1)),
    NOW - DAY,
    datetime(2026, 11, 1, 3, 59, 59, 999_999, tzinfo=UTC),  # the last of October in New York
    datetime(2026, 11, 1, 4, tzinfo=UTC),  # its midnight
    datetime(2026, 11, 1, 6, tzinfo=UTC),  # the hour that comes twice, again
    NOW - SECOND,
    NOW,
    NOW + SECOND,
    NOW + 40 * DAY,
]
DECIMALS = {"JPY": 0, "KWD": 3}

#: What befalls an order. Each store walks through all of these, as far as its orders reach.
SCRIPTS = [
    ["pay", "refund", "refund"],
    ["pay", "refund", "refund_all"],
    ["refund", "pay"],
    ["pay", "too_much", "touch"],
    ["pay", "lagging_refund", "touch"],
    ["cancel", "pay"],
    ["pay", "refund", "cancel", "touch"],
    ["pay", "delete", "touch"],
    ["leave", "pay", "attach"],
    ["leave", "pay", "refund"],
    ["pay", "move", "refund", "move"],
    ["pay", "attach", "leave"],
    ["try_out", "pay"],
    ["pay", "edit_up", "edited", "edit_down"],
    ["gift_card", "pay", "refund", "refund_all"],
    ["gift_card", "pay", "edit_down", "lagging_refund"],
    ["pay", "process_again", "refund"],
    ["pay", "disagree"],
    ["odd_status", "touch"],
]
ACTIONS = sorted({action for script in SCRIPTS for action in script})


@dataclass
class _Line:
    id: int
    price: int
    quantity: int
    current_quantity: int
    discount: int  # of the whole line as ordered
    gift_card: bool
    original: bool = True  # not added by an edit

    def worth(self, pieces: int) -> int:
        return self.price * pieces - self.discount * pieces // self.quantity


@dataclass
class _Order:
    id: int
    created_at: datetime
    processed_at: datetime | None
    customer: int | None
    lines: list[_Line]
    status: str = "pending"
    test: bool = False
    cancelled_at: datetime | None = None
    refunds: list[Json] = field(default_factory=list)


class _Store:
    def __init__(self, seed: int, shop: str, currency: str, customers: int, moments: int) -> None:
        self.chance = random.Random(seed)
        self.shop, self.currency = shop, currency
        self.decimals = DECIMALS.get(currency, 2)
        self.customers = [2**60 + number for number in range(customers)]
        self.moments = MOMENTS[:moments]
        self.envelopes: list[Json] = []
        self.last_id = 820_982_911_946_154_000  # beyond 2**53

    # Words and numbers

    def next_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def instant(self, at: datetime | None) -> str | None:
        """RFC 3339 with one of several offsets, as shops in several zones would write it."""
        if at is None:
            return None
        hours = self.chance.choice([0, 0, -5, 5.5])
        text = at.astimezone(timezone(timedelta(hours=hours))).isoformat()
        return text.replace("+00:00", "Z") if self.chance.random() < 0.5 else text

    def text(self, amount: int) -> str:
        if not self.decimals:
            return str(amount)
        sign, digits = "-" * (amount < 0), f"{abs(amount):0{self.decimals + 1}d}"
        return f"{sign}{digits[: -self.decimals]}.{digits[-self.decimals :]}"

    def bag(self, amount: int) -> Json:
        return {
            "shop_money": {"amount": self.text(amount), "currency_code": self.currency},
            "presentment_money": {"amount": f"{amount * 7}.77", "currency_code": "EUR"},  # never to be used
        }

    def money(self, name: str, amount: int, bags: bool) -> Json:
        return {name: self.text(amount)} | ({f"{name}_set": self.bag(amount)} if bags else {})

    # Payloads

    def line(self, line: _Line, modern: bool, taxed: bool) -> Json:
        found: Json = {
            "id": line.id,
            "product_id": self.chance.choice([None, 632_910_392]),
            "variant_id": None,
            "sku": "SKU-1",
            "quantity": line.quantity,
            "gift_card": line.gift_card,
            **self.money("price", line.price, modern),
        }
        if taxed:
            tax = 0 if line.gift_card else line.worth(line.quantity) * 4 // 25
            found["tax_lines"] = [{"price": self.text(part), "rate": 0.19} for part in (tax // 3, tax - tax // 3)]
        if modern:
            found["current_quantity"] = line.current_quantity
        if modern and line.discount:
            first = line.discount // 3
            parts = [part for part in (first, line.discount - first) if part]
            found["discount_allocations"] = [
                {"discount_application_index": 0, **self.money("amount", part, True)} for part in parts
            ]
            found["total_discount"] = self.text(0)
        else:
            found["total_discount"] = self.text(line.discount)
            if modern:
                found["discount_allocations"] = []
        return found

    def refund(self, order: _Order, rows: list[tuple[_Line, int, int]]) -> Json:
        """A refund of (line, pieces, amount); told as sets, as plain amounts, or by price alone."""
        items = []
        for line, pieces, amount in rows:
            row: Json = {
                "id": self.next_id(),
                "line_item_id": line.id,
                "quantity": pieces,
                "restock_type": self.chance.choice(["no_restock", "return"]),
                "line_item": {
                    "id": line.id,
                    "gift_card": line.gift_card,
                    "quantity": line.quantity,
                    "price": self.text(line.price),
                    "total_discount": self.text(line.discount),
                },
            }
            by_price = line.price * pieces - line.discount * pieces // line.quantity
            form = self.chance.choice(["set", "set and nonsense", "plain", "price"])
            if form == "price" and by_price == amount:
                pass
            elif form == "plain":
                row["subtotal"] = self.text(amount)
            else:
                row["subtotal_set"] = self.bag(amount)
                row["subtotal"] = self.text(amount + (form == "set and nonsense"))
            if self.chance.random() < 0.7:
                row |= self.money("total_tax", amount * 4 // 25, self.chance.random() < 0.5)
            items.append(row)
        at = self.chance.choice(self.moments)
        return {
            "id": self.next_id(),
            "order_id": order.id,
            "created_at": self.instant(at),
            "processed_at": self.instant(at),
            "note": None,
            "restock": True,
            "duties": [],
            "return": None,
            "refund_shipping_lines": [],
            "refund_line_items": items,
            **self.paid_back(sum(amount for *_, amount in rows)),
        }

    def paid_back(self, goods: int) -> Json:
        """Adjustments and transactions: none, as much as the goods, more by goodwill, less by a fee, or postage."""
        if self.chance.random() < 0.2:
            return {}
        beyond = self.chance.choice([0, 0, 0, 150, 999, -min(goods, 100)])
        adjustments: list[Json] = []
        if beyond:
            amount = {"amount": self.text(-beyond), "tax_amount": self.text(0), "reason": "Refund discrepancy"}
            adjustments.append(amount | self.chance.choice([{}, {"kind": "refund_discrepancy"}]))
        if postage := self.chance.choice([0, 0, 499]):
            adjustments.append({"kind": "shipping_refund", "reason": "Shipping refund", "amount": self.text(-postage)})
        parts = [goods + beyond, postage] if self.chance.random() < 0.5 else [goods + beyond + postage]
        currency: Json = self.chance.choice([{}, {"currency": None}, {"currency": self.currency}])
        transactions = [
            {
                "kind": "refund",
                "status": self.chance.choice(["success"] * 4 + ["pending", "failure"]),
                "amount": self.text(part),
                "gateway": "bogus",
                **currency,
            }
            for part in parts
        ]
        if self.chance.random() < 0.1:  # paid back in the money of who bought
            transactions = [{**each, "currency": "EUR", "amount": "7.77"} for each in transactions]
        return {"order_adjustments": adjustments, "transactions": transactions}

    def snapshot(self, order: _Order, updated_at: datetime) -> Json:
        """The order in today's shape, or older: no `*_set`, then no `current_*`, then no `refunds[]`."""
        age = self.chance.choice(["modern", "modern", "modern", "plain", "old", "oldest"])
        modern = age == "modern"
        taxed = self.chance.random() < 0.8
        original = sum(line.worth(line.quantity) for line in order.lines if line.original)
        current = sum(line.worth(line.current_quantity) for line in order.lines)
        found: Json = {
            "id": order.id,
            "admin_graphql_api_id": f"gid://shopify/Order/{order.id}",
            "created_at": self.instant(order.created_at),
            "processed_at": self.instant(order.processed_at),
            "updated_at": self.instant(updated_at if self.chance.random() < 0.95 else None),
            "closed_at": None,
            "cancelled_at": self.instant(order.cancelled_at),
            "cancel_reason": "customer" if order.cancelled_at else None,
            "financial_status": order.status,
            "test": order.test,
            "currency": self.currency,
            "presentment_currency": "EUR",
            "customer": None if order.customer is None else {"id": order.customer, "currency": "EUR"},
            "source_name": "web",
            "tags": "",
            "line_items": [self.line(line, modern, taxed) for line in order.lines],
            "taxes_included": order.id % 3 > 0,
            **self.money("total_tax", original * 4 // 25, modern),
            **self.money("subtotal_price", original, modern),
            **self.money("total_price", original + 500, modern),
        }
        if age in ("modern", "plain"):
            found |= self.money("current_subtotal_price", current, modern)
            found |= self.money("current_total_price", current + 500, modern)
        if age != "oldest":
            found["refunds"] = copy.deepcopy(order.refunds)
        if order.customer is None and self.chance.random() < 0.5:
            del found["customer"]
        if self.chance.random() < 0.3:
            found["address"] = self.address(order.customer or self.chance.choice(self.customers))
        return found

    def address(self, customer: int) -> str:
        """Mostly their own; two of them share one."""
        return f"mail-{max(customer, self.customers[0] + 1):032x}"

    # Deliveries

    def send(self, topic: str, payload: Json, at: datetime | None = None) -> None:
        """Deliver a webhook: sometimes late, sometimes twice or thrice, now and then never."""
        if self.chance.random() < 0.05:
            return
        triggered_at = at or self.chance.choice(self.moments)
        late = self.chance.choice([0, 0, 2, 2, 4 * 3600, -240, -3600])  # below 0: the sender's clock is ahead
        envelope: Json = {
            "topic": topic,
            "shop": self.shop,
            "webhook_id": self.webhook_id(),
            "event_id": str(uuid.UUID(int=self.chance.getrandbits(128))),
            "api_version": "2026-07",
            "triggered_at": triggered_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "received_at": self.received(triggered_at + late * SECOND),
            "payload": payload,
        }
        self.envelopes.append(envelope)
        while self.chance.random() < 0.15:  # the same delivery again
            late += self.chance.choice([1, 60, 4 * 3600])
            self.envelopes.append(envelope | {"received_at": self.received(triggered_at + late * SECOND)})
        if self.chance.random() < 0.1:  # the same event by a second subscription
            self.envelopes.append(envelope | {"webhook_id": self.webhook_id()})

    def received(self, at: datetime) -> str:
        return at.isoformat(timespec="microseconds").replace("+00:00", "Z")

    def webhook_id(self) -> str:
        return self.chance.choice("9Za~") + str(uuid.UUID(int=self.chance.getrandbits(128)))

    # What befalls an order

    def new_line(self, gift_card: bool = False) -> _Line:
        price, quantity = (
            self.chance.choice([0, 1, 99, 999, 1000, 1999, 5050, 33_333]),
            self.chance.randint(1, 3),
        )
        discount = self.chance.choice([0, 0, 1, price * quantity // 3, price * quantity])
        return _Line(self.next_id(), price, quantity, quantity, min(discount, price * quantity), gift_card)

    def new_order(self) -> _Order:
        created_at = self.chance.choice(PROCESSED)
        processed_at = self.chance.choice([None, created_at, *self.chance.sample(PROCESSED, 3)])
        lines = [self.new_line(self.chance.random() < 0.15) for _ in range(self.chance.randint(1, 3))]
        return _Order(self.next_id(), created_at, processed_at, self.chance.choice(self.customers), lines)

    def act(self, action: str, order: _Order) -> str:
        """Change the order, send what is no snapshot, and tell the topic of the snapshot to follow."""
        others = [each for each in self.customers if each != order.customer] or self.customers
        match action:
            case "pay":
                order.status = self.chance.choice(["paid", "paid", "paid", "partially_paid"])
                return "orders/paid"
            case "cancel":
                order.cancelled_at = self.chance.choice(self.moments)
                return "orders/cancelled"
            case "delete":
                self.send("orders/delete", {"id": order.id})
            case "leave":
                order.customer = None
            case "attach" | "move":
                order.customer = self.chance.choice(others)
            case "try_out":
                order.test = not order.test
            case "odd_status":
                order.status = self.chance.choice(["authorized", "voided", "expired", "mystified"])
            case "process_again":
                order.processed_at = self.chance.choice([None, *PROCESSED])
            case "gift_card":
                order.lines.append(self.new_line(gift_card=True))
            case "edit_up":
                added = self.new_line(self.chance.random() < 0.2)
                added.original = False
                order.lines.append(added)
            case "edit_down":
                line = self.chance.choice(order.lines)
                line.current_quantity = self.chance.randint(0, line.current_quantity)
            case "edited":
                edit = {"id": self.next_id(), "order_id": order.id, "created_at": self.instant(NOW)}
                changes = {"additions": [{"id": order.lines[-1].id, "delta": 1}], "removals": []}
                self.send("orders/edited", {"order_edit": edit | {"line_items": changes}})
            case "refund" | "refund_all" | "lagging_refund" | "too_much" | "disagree":
                self.give_back(action, order)
        return "orders/updated"

    def give_back(self, action: str, order: _Order) -> None:
        rows = []
        for line in order.lines:
            most = line.current_quantity
            pieces = most if action == "refund_all" else self.chance.randint(0, most)
            if pieces:
                amount = line.worth(most) - line.worth(most - pieces)
                rows.append((line, pieces, amount))
        if action == "too_much":  # goodwill: more than the goods were worth, and no goods come back
            refund = self.refund(order, [(order.lines[0], 1, 10 * order.lines[0].price + 1)])
            order.refunds.append(refund)
        else:
            refund = self.refund(order, rows)
            known = [*order.refunds, refund]
            if action != "lagging_refund":  # else no later snapshot ever tells of it
                order.refunds = known
                order.status = "refunded" if action == "refund_all" else "partially_refunded"
                for line, pieces, _ in rows:
                    line.current_quantity -= pieces
        if action == "disagree" and rows:  # another copy of this refund, told with another amount
            other = self.refund(order, [(line, pieces, amount + 100) for line, pieces, amount in rows])
            self.send("refunds/create", other | {key: refund[key] for key in ("id", "created_at")})
        if self.chance.random() < 0.8:
            self.send("refunds/create", refund)

    def play(self, order: _Order, script: list[str]) -> None:
        past = [copy.deepcopy(order)]
        lost = self.chance.random() < 0.05  # every snapshot of this order
        if not lost:
            self.send("orders/create", self.snapshot(order, self.chance.choice(self.moments)))
        for action in script:
            topic = self.act(action, order)
            if lost:
                continue
            past.append(copy.deepcopy(order))
            shown = order if self.chance.random() < 0.85 else self.chance.choice(past)  # a stale view, newly stamped
            if topic == "orders/cancelled":
                shown = order  # it says when it was cancelled, or it is none
            at = self.chance.choice(self.moments)
            triggered_at = at if self.chance.random() < 0.7 else self.chance.choice(self.moments)
            self.send(topic, self.snapshot(shown, at), triggered_at)

    def about_customers(self) -> None:
        strangers = [self.customers[-1] + 1 + number for number in range(2)]  # who never order
        for customer in self.customers + strangers:
            at = self.instant(self.chance.choice(self.moments))
            payload: Json = {"id": customer, "created_at": at, "updated_at": at, "state": "enabled", "tags": ""}
            if self.chance.random() < 0.3:
                payload["address"] = self.address(customer)
            for topic in ("customers/create", "customers/update"):
                if self.chance.random() < 0.4:
                    self.send(topic, payload)
            if self.chance.random() < 0.15:
                self.send("customers/delete", {"id": customer})
        for status in self.chance.sample(["failed", "completed", "completed"], self.chance.randint(0, 3)):
            kept = self.chance.choice(self.customers)
            gone = self.chance.choice([*self.customers, strangers[0], strangers[0] + 10])
            merge: Json = {
                "admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{kept}",
                "admin_graphql_api_customer_deleted_id": f"gid://shopify/Customer/{gone}",
                "admin_graphql_api_job_id": None,
                "status": status,
                "errors": [],
            }
            self.send("customers/merge", merge)

    def awards(self, chance: random.Random) -> None:
        """Points given and taken by hand, a few under one name with two bodies, some taken back again.

        By dice of their own: what befalls orders is what it was before there were any.
        """
        for number in range(chance.randint(0, 3 * len(self.customers))):
            at, points = chance.choice(PROCESSED[:-2]), chance.choice([1, 50, 2000, -1, -40, -5000])
            payload: Json = {
                "customer_id": chance.choice([*self.customers, self.customers[-1] + 1]),
                "award_id": f"award-{number}",
                "at": self.received(at),
                "points": points,
                "reason": chance.choice(["refund", "Geburtstag für Ömer", "goodwill"]),
                "source": "manual",
                "counts_as_earned": chance.random() < 0.5,
            }
            self.send("account/award", payload)
            if chance.random() < 0.2:
                self.send("account/award", payload | {"points": points + 1})
            if chance.random() < 0.2:
                self.send("account/award", payload | {"voided": True})
        self.redemptions(chance)

    def deduction(self, chance: random.Random, named: Json, number: int, at: datetime) -> None:
        """What was decided of points to be taken if they are there; a few were taken back."""
        decided = {"seq": number + 1, "decided_at": self.received(at), "requested_at": self.received(at)}
        said = {"accepted": chance.random() < 0.8, "forced": False, "cost": chance.choice([1, 30, 700]), "balance": 0}
        self.send("account/decision", named | decided | said | {"purpose": "lost", "source": "api"})
        if chance.random() < 0.3:
            self.send("account/cancel", named)

    def redemptions(self, chance: random.Random) -> None:
        """What was decided of requests, and what became of them; a few orders bear their codes."""
        snapshots = [each["payload"] for each in self.envelopes if each["topic"] == "orders/paid"]
        for number in range(chance.randint(0, 2 * len(self.customers))):
            customer, at = chance.choice(self.customers), chance.choice(PROCESSED[:-2])
            named: Json = {"customer_id": customer, "request_id": f"request-{number}"}
            if chance.random() < 0.2:
                self.deduction(chance, named | {"request_id": f"checked/{number}"}, number, at)
                continue
            decision = {
                **named,
                "seq": number + 1,
                "decided_at": self.received(at),
                "requested_at": self.received(at),
                "accepted": chance.random() < 0.8,
                "forced": False,
                "reward_id": chance.choice(["ten", "kept"]),
                "cost": chance.choice([1, 30, 700]),
                "balance": 0,
            }
            self.send("account/decision", decision)
            code = chance.choice([f"ln-{number}", "LN-SHARED"])
            if chance.random() < 0.6:
                self.send("account/fulfilment", named | {"attempt": 1, "state": "issued", "code": code})
            if chance.random() < 0.2:
                self.send("account/fulfilment", named | {"attempt": chance.choice([0, 2]), "state": "failed"})
            if chance.random() < 0.3:
                self.send("account/cancel", named | chance.choice([{}, {"reason": "unused"}]))
            for payload in chance.sample(snapshots, min(2, len(snapshots))):
                payload["discount_codes"] = [{"code": code}]


def store(
    seed: int,
    customers: int = 6,
    orders: int = 20,
    *,
    shop: str = SHOP,
    currency: str = "USD",
    moments: int = 3,
) -> list[Json]:
    """The envelopes of a small shop, in the order received; equal for equal arguments.

    `customers` at least 1; `moments` (1 to 6) is how many distinct instants its events have. Nineteen orders
    walk through every script. Over a few seeds every topic of orders, refunds and customers occurs, save the
    privacy topics.
    """
    made = _Store(seed, shop, currency, customers, moments)
    scripts = made.chance.sample(SCRIPTS, len(SCRIPTS))
    for number in range(orders):
        extra = made.chance.choices(ACTIONS, k=made.chance.choice([0, 0, 1, 3]))
        made.play(made.new_order(), scripts[number % len(scripts)] + extra)
    made.about_customers()
    made.awards(random.Random(f"{seed} awards"))
    made.chance.shuffle(made.envelopes)
    return sorted(made.envelopes, key=lambda envelope: envelope["received_at"])


def program(seed: int, currency: str = "USD") -> Json:
    """A program whose rules change at the very moments at which a store's orders are processed.

    The first rule holds since ever; the others stand in no order.
    """
    chance = random.Random(seed)
    starts = [at.isoformat().replace("+00:00", "Z") for at in PROCESSED]
    chosen = [None, *chance.sample(starts, chance.randint(0, 3))]
    rates = ["0", "0.333", "1", "1.5", "10"]
    return {
        "currency": currency,
        "zone": chance.choice([ZONE, "UTC", "Asia/Kolkata"]),
        "look_back_days": chance.choice([365, 365, 30, None]),
        "rules": [{"effective_from": start, "points_per_unit": chance.choice(rates)} for start in chosen],
        "policies": [
            {
                "effective_from": start,
                "refunds": chance.choice(["goods", "goods_and_adjustments", "money"]),
                "taxes": chance.choice(["as_priced", "excluded"]),
            }
            for start in chance.sample([None, *starts], chance.randint(0, 3))
        ],
        **_terms(random.Random(f"{seed} terms"), [None, *starts]),
        "rewards": [
            {
                "reward_id": name,
                "effective_from": None,
                "cost": 10,
                "kind": "shipping",
                "name": name,
                "on_void": on_void,
            }
            for name, on_void in (("ten", "return"), ("kept", "keep"))
        ],
    }


def _terms(chance: random.Random, starts: list[Any]) -> Json:
    """Holds and expiry, of two programs in three; of a third of these for want of activity."""
    if chance.random() < 0.33:
        return {}
    found = _lives(chance, starts)
    if chance.random() < 0.33:
        days = [30, 31, 40, 365]
        found["expiry"] = [
            {"effective_from": start, "inactive_days": chance.choice(days)}
            for start in chance.sample(starts, chance.randint(1, 3))
        ]
    return found


def _lives(chance: random.Random, starts: list[Any]) -> Json:
    return {
        "holds": [
            {"effective_from": start, "hold_days": chance.choice([0, 1, 14, 30])}
            for start in chance.sample(starts, chance.randint(0, 2))
        ],
        "expiry": [
            {
                "effective_from": start,
                "life_days": chance.choice([1, 20, 29, 365, None]),
                "calendar": chance.choice(["day", "day", "year"]),
            }
            for start in chance.sample(starts, chance.randint(0, 3))
        ],
    }
