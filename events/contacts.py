"""In what order webhooks told of addresses and consents: two joins, each by the greatest key."""

from typing import Any

from events import instants
from events.envelopes import Webhook

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


def placed_at(webhook: Webhook) -> int:
    """When an order's buyer told of themselves (microseconds): as it was placed, however often it is updated since."""
    times = [webhook.payload.get(name) for name in ("created_at", "processed_at")]
    return instants.event_time(min(instants.parse(at) for at in times if at is not None), webhook.received_at)


def _updated_at(webhook: Webhook) -> int:
    at = webhook.payload.get("updated_at") or webhook.payload.get("created_at")
    return instants.parse(at) if at else webhook.triggered_at
