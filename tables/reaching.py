"""How a customer may be reached: what webhooks of their own and orders told of address and consent, sealed as it came.

Address and consent are each the newest by its key (events/contacts.py); nothing here can be read.
"""

import re
from typing import Any

from msgspec import Struct
from typing_extensions import TypedDict

from events import contacts, instants
from events.account_records import OrderFact
from events.envelopes import Webhook

#: What the vault makes of a contact: some 600 signs. Anything else of a third party's would end in the row.
_SEALED = re.compile(r"[!-~]{1,4096}")


class Reachable(TypedDict):
    """What of a customer's state says so."""

    deleted: bool
    redacted: bool
    contact: str | None  # the newest address that a customer's own webhook told, sealed
    contact_key: contacts.Key | None
    addressed: bool  # one of them told an address, ever
    order_contact: contacts.Key | None  # of the newest order: [placed_at, updated_at, sealed]
    consent: contacts.Key | None  # the newest likewise: [its own time, triggered_at, webhook_id, sealed]
    order_consent: contacts.Key | None  # of the newest order whose buyer agreed: [placed_at, sealed]


def take_contact(state: Reachable, webhook: Webhook) -> None:
    """The newest address and the newest consent, each by its own key; what a payload lacks it says nothing of.

    They come sealed, or not at all. One delivery that came twice may have been sealed twice, each time to other bytes:
    those decide last.
    """
    address_key, consent_key = contacts.address_key(webhook), contacts.consent_key(webhook)
    if "contact" in webhook.payload:
        sealed = _sealed(webhook.payload["contact"])
        have = state["contact_key"]
        if have is None or (have, state["contact"] or "") < (address_key, sealed or ""):
            state["contact_key"] = address_key
            state["contact"] = sealed
        state["addressed"] = state["addressed"] or sealed is not None
    consent = _sealed(webhook.payload.get("consent"))
    if consent is not None:
        state["consent"] = max(state["consent"] or [], [*consent_key, consent])


def take_order(state: Reachable, fact: OrderFact) -> None:
    """What an order told of the customer's address and consent."""
    contact, consent = fact.get("contact"), fact.get("consent")
    if contact is not None:
        key = [contact["placed_at"], contact["updated_at"], contact["sealed"]]
        state["order_contact"] = max(state["order_contact"] or [], key)
    if consent is not None:
        state["order_consent"] = max(state["order_consent"] or [], [consent["placed_at"], consent["sealed"]])
    forget(state)


def _sealed(value: Any) -> str | None:
    return value if isinstance(value, str) and _SEALED.fullmatch(value) else None


def forget(state: Reachable) -> None:
    """Nothing is kept of how to reach somebody who was deleted or redacted."""
    if state["redacted"] or state["deleted"]:
        state["contact"] = state["order_contact"] = state["consent"] = state["order_consent"] = None


class Reach(Struct, frozen=True):
    """How a customer may be reached, as their row has it: sealed, and when that was told.

    A time without an address: it was taken away.
    """

    contact: str | None = None
    contact_at: str | None = None
    consent: str | None = None
    consent_at: str | None = None
    consent_by_order: bool = False


def reach(state: Reachable) -> Reach:
    """How a customer may be reached.

    An order's address only while no webhook of the customer's own has told one, be it that they took it away since.

    The newest consent; an order's only where it is newer than one of their own that has a time. An export of customers
    tells none: who said no in it must not be taken at their word of an old order.
    """
    if state["redacted"] or state["deleted"]:
        return Reach()
    contact, contact_at = state["contact"], (state["contact_key"] or [None])[0]
    if contact is None and not state["addressed"]:
        contact_at, *_, contact = state["order_contact"] or (None, None)
    own, ordered = state["consent"], state["order_consent"]
    by_order = ordered is not None and (own is None or 0 < own[0] < ordered[0])
    consent_at, *_, consent = (ordered if by_order else own) or (0, None)
    return Reach(
        contact,
        None if contact_at is None else instants.text(contact_at),
        consent,
        instants.text(consent_at) if consent_at else None,
        by_order,
    )
