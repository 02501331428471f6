"""What is asked of an account, as it stands on the account log: from a request's envelope, checked."""

from typing import Any, Final

from pydantic import ValidationError

from events import envelopes, instants, keys, payloads
from events.account_records import ASKED, Asked
from events.envelopes import Webhook
from events.errors import BadEvent
from events.webhook_topics import Kind

_TYPES: Final = {
    Kind.AWARD: "account.award",
    Kind.REDEEM: "account.redeem",
    Kind.CANCEL: "account.cancel",
    Kind.FULFILMENT: "account.fulfilment",
    Kind.DECISION: "account.decision",
}


def record(webhook: Webhook) -> Asked:
    """The record of a request (webhook_topics.ASKED); BadEvent for one that cannot be used.

    What is said to have happened later than it came is taken as having happened then.
    """
    kind, said = webhook.kind, webhook.payload
    found: dict[str, Any] = {
        "type": _TYPES[kind],
        "shop": webhook.shop,
        "customer_id": keys.customer_id(payloads.resource_of(webhook.topic, said)),
        "now": webhook.event_time,
        **_FIELDS[kind](webhook, said),
    }
    try:
        return ASKED.validate_python(found, strict=True)
    except ValidationError as error:
        raise BadEvent("bad_request", envelopes.explain(error)) from None


def _award(webhook: Webhook, said: dict[str, Any]) -> dict[str, Any]:
    return {
        "award_id": said["award_id"],
        "at": instants.event_time(instants.parse(said["at"]), webhook.received_at),
        "points": said["points"],
        "reason": said.get("reason") or "",
        "source": said.get("source") or "",
        "counts_as_earned": bool(said.get("counts_as_earned")),
        "voided_at": webhook.event_time if said.get("voided") else 0,
    }


def _redeem(webhook: Webhook, said: dict[str, Any]) -> dict[str, Any]:
    return {
        "request_id": said["request_id"],
        "reward_id": said.get("reward_id"),
        **_deducted(said),
        "cost": said["cost"],
        "forced": webhook.topic == "account/redeem_forced",
        "program": instants.parse(said["program_at"]) if said.get("program_at") else 0,
    }


def _deducted(said: dict[str, Any]) -> dict[str, str]:
    """What is said of a deduction alone: what for, and by whom it is asked for."""
    return {name: said[name] for name in ("purpose", "source") if said.get(name)}


def _cancel(_webhook: Webhook, said: dict[str, Any]) -> dict[str, Any]:
    return {"request_id": said["request_id"], "reason": said.get("reason") or ""}


def _fulfilment(_webhook: Webhook, said: dict[str, Any]) -> dict[str, Any]:
    until = said.get("valid_until")
    return {
        "request_id": said["request_id"],
        "attempt": said["attempt"],
        "state": said["state"],
        "code": said.get("code"),
        "valid_until": None if until is None else instants.parse(until),
        "reason": said.get("reason") or "",
    }


def _decision(_webhook: Webhook, said: dict[str, Any]) -> dict[str, Any]:
    times = {name: instants.parse(said[name]) for name in ("decided_at", "requested_at")}
    same = {name: said[name] for name in ("request_id", "cost", "seq", "accepted", "balance")}
    more = {name: said.get(name) for name in ("reward_id", "reason")}
    return {**same, **times, **more, **_deducted(said), "forced": bool(said.get("forced"))}


_FIELDS: Final = {
    Kind.AWARD: _award,
    Kind.REDEEM: _redeem,
    Kind.CANCEL: _cancel,
    Kind.FULFILMENT: _fulfilment,
    Kind.DECISION: _decision,
}
