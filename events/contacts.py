"""In what order webhooks told of addresses and consents: two joins, each by the greatest key.

And what of several customers who are one person holds (`joined`), where it can be read: by whoever opens it.
"""

from typing import Any, Final, NamedTuple

from events import instants
from events.envelopes import Webhook
from events.payloads import Contact

#: The one state in which somebody may be written to.
SUBSCRIBED: Final = "subscribed"

#: Of two that are told alike, one delivery that was sealed twice, the sealed bytes decide.
Key = list[Any]


def address_key(webhook: Webhook) -> Key:
    """Of an address that a customer's own webhook told: [updated_at, triggered_at, webhook_id]."""
    return [_updated_at(webhook), webhook.triggered_at, webhook.webhook_id]


def consent_key(webhook: Webhook) -> Key:
    """Of a consent that a customer's own webhook told: its own time first, else the payload's.

    It is never believed to be from the future: nobody could take it back before that.
    """
    said = webhook.payload.get("consent_at")
    at = instants.parse(said) if said else _updated_at(webhook)
    return [instants.event_time(at, webhook.received_at), webhook.triggered_at, webhook.webhook_id]


def placed_at(webhook: Webhook, processed_at: int) -> int:
    """When an order's buyer told of themselves (microseconds): as it was placed, however often it is updated since."""
    created_at = instants.parse(webhook.payload["created_at"])
    return instants.event_time(min(created_at, processed_at), webhook.received_at)


def _updated_at(webhook: Webhook) -> int:
    at = webhook.payload.get("updated_at") or webhook.payload.get("created_at")
    return instants.parse(at) if at else webhook.triggered_at


class Account(NamedTuple):
    """What one customer has told of themselves, opened. Times in microseconds, 0 where nobody knows.

    `removed`: they told an address once, and took it away. `by_order`: the consent is what an order's buyer agreed to.
    """

    email: str | None = None
    email_at: int = 0
    removed: bool = False
    consent: str | None = None
    consent_at: int = 0
    by_order: bool = False


def joined(kept: Account, *others: Account) -> Contact:
    """Address and consent of a person from those of all customers who are them now.

    The address is of the one who was kept, else the newest of the others'. Consent is the newest of all, and of one
    time the one that forbids; as of one customer, an order's only where it is newer than one that has a time.
    """
    if not others:
        return Contact(kept.email, kept.consent)
    email = kept.email
    if email is None and not kept.removed:
        email = max(((each.email_at, each.email) for each in others if each.email is not None), default=(0, None))[1]
    told = [each for each in (kept, *others) if each.consent is not None]
    own = max((_rank(each) for each in told if not each.by_order), default=None)
    ordered = max((_rank(each) for each in told if each.by_order), default=None)
    newest = ordered if own is None or (ordered is not None and 0 < own[0] < ordered[0]) else own
    return Contact(email, None if newest is None else newest[-1])


def _rank(of: Account) -> tuple[int, bool, str]:
    return of.consent_at, of.consent != SUBSCRIBED, of.consent or ""
