"""Minimising Shopify's payloads: of each topic only the fields we use go on, each only if it is of its type.

Names, addresses, phones and IPs are never copied. E-mail and consent come back apart from the payload, so that the
front door can seal them; anybody else lets them fall. Minimising twice changes nothing.

Shopify signs a body and not its topic or shop, so a payload must also have the shape of its topic, and name no shop
but the one it is said to be from: `check`.
"""

import re
from decimal import Decimal
from typing import Any, Final, NamedTuple

from events import instants, keys
from events.errors import BadEvent, UnusedTopic
from events.webhook_topics import BY_ADDRESS, TOPICS, WORD, Kind, Leaf, Spare, WebhookTopic

_GID: Final = "gid://shopify/"
_HOST: Final = re.compile(r"https?://([^/:?#@]+)(?![^/:?#])", re.IGNORECASE)


class InexactNumber(BadEvent):
    """A decimal number was read as a float: read the bytes again with `codec.loads_exact`."""

    def __init__(self, path: str) -> None:
        super().__init__("inexact_number", f"{path} is a float")


class Contact(NamedTuple):
    """A customer's e-mail, normalised, and whether marketing may be sent to it; None: not told here.

    Consent is `subscribed`, `pending`, `unsubscribed`, `not_subscribed`, or another of Shopify's states.
    """

    email: str | None
    consent: str | None


class Told(NamedTuple):
    """What one payload tells: an e-mail, or that there is none any more (`removed`); a consent, and its own time."""

    email: str | None = None
    removed: bool = False
    consent: str | None = None
    consent_at: str | None = None


#: In place of a spare field that is not of its type: it is left out.
_UNFIT: Final = object()
_ABSENT: Final = object()


def _fits(leaf: Leaf, value: Any) -> bool:
    """Whether a value that is no text is of its leaf's type as it stands."""
    kind = value.__class__
    if kind is int:
        return leaf.whole and -(1 << 63) <= value < 1 << 63
    return kind is bool and leaf.boolean


def _decimal(leaf: Leaf, value: Any, path: str) -> Any:
    """The text of a decimal number where one may stand; what is of no type of the leaf's is not taken."""
    if leaf.decimal and isinstance(value, float):
        raise InexactNumber(path)
    if leaf.decimal and isinstance(value, Decimal) and leaf.matches(text := str(value)):
        return text
    if leaf.spare:
        return _UNFIT
    raise BadEvent(leaf.reason, f"{path} is not what it should be (a {type(value).__name__})")


def _pick(spec: Any, value: Any, path: str) -> Any:
    """What of a value the spec lets through. Each webhook takes this way several times: leaves are met in the loop."""
    if spec.__class__ is Spare:
        try:
            return _pick(spec.spec, value, path)
        except InexactNumber:
            raise
        except BadEvent:
            return _UNFIT
    if value is None:
        return None
    if spec.__class__ is list:
        if not isinstance(value, list):
            raise BadEvent("wrong_type", f"{path} is a {type(value).__name__}, not a list")
        return [_pick(spec[0], each, path) for each in value]
    if not isinstance(value, dict):
        raise BadEvent("wrong_type", f"{path} is a {type(value).__name__}, not an object")
    small = {}
    told = value.get
    for name, inner in spec.items():
        found = told(name, _ABSENT)
        if found is _ABSENT:
            continue
        if found is not None:
            if inner.__class__ is not Leaf:
                found = _pick(inner, found, f"{path}.{name}")
            elif inner.matches(found) is None if found.__class__ is str else not _fits(inner, found):
                found = _decimal(inner, found, f"{path}.{name}")
            if found is _UNFIT:
                continue
        small[name] = found
    return small


def _known(topic: str) -> WebhookTopic:
    found = TOPICS.get(topic)
    if found is None:
        raise UnusedTopic
    return found


def minimise(topic: str, payload: Any) -> dict[str, Any]:
    """The payload with only the fields of its topic that we use, decimals as text.

    Raises UnusedTopic for a topic that we have no use for, BadEvent for a payload not of its topic's structure,
    InexactNumber where a float stands for a decimal.
    """
    found = _known(topic)
    if not isinstance(payload, dict):
        raise BadEvent("wrong_type", f"the payload is a {type(payload).__name__}, not an object")
    small: dict[str, Any] = _pick(found.fields, payload, topic)
    lines = small.get("line_items")
    if lines:
        small["line_items"] = [_line(line) for line in lines if line]
    return small


def _line(line: dict[str, Any]) -> dict[str, Any]:
    """An order's line; of one that is no gift card the price alone, which is in the shop's currency, for its bytes."""
    if not line.get("gift_card"):
        line.pop("price_set", None)
    return line


def check(topic: str, shop: str | None, payload: dict[str, Any], *, page: bool = True) -> None:
    """BadEvent `wrong_shape` for a payload that is not of its topic, `other_shop` for one that names another shop.

    Takes the payload as it came, or minimised: what has passed once passes again. Without `page` the host of an
    order's page is not looked at: a shop that took another name answers there by it.
    """
    found = _known(topic)
    resource = _resource(payload)
    if found.resource is not None and resource is not None and resource != found.resource:
        raise BadEvent("wrong_shape", f"the payload is no {found.resource}")
    missing = [name for name in found.needs if payload.get(name) is None]
    if missing:
        raise BadEvent("wrong_shape", f"the payload has no {' and no '.join(missing)}")
    only = found.only
    if only is not None and any(value not in _NOTHING for name, value in payload.items() if name not in only):
        raise BadEvent("wrong_shape", "the payload says more than its topic does")
    named = _named_shop(payload, page)
    if named is not None and named != shop:
        raise BadEvent("other_shop", "the payload names another shop")


#: What a field holds that says nothing.
_NOTHING: tuple[Any, ...] = (None, "", [], {})


def _resource(payload: dict[str, Any]) -> str | None:
    """What of Shopify's the payload is, as far as it tells: Order, Refund, Customer, ..."""
    gid = payload.get("admin_graphql_api_id")
    if isinstance(gid, str) and gid.startswith(_GID):
        return gid[len(_GID) :].partition("/")[0]
    if "financial_status" in payload or "line_items" in payload:
        return "Order"
    return "Refund" if "order_id" in payload else None


def _named_shop(payload: dict[str, Any], page: bool) -> str | None:
    """The shop that a payload names: by its domain, or as the host of an order's page (a shop may have its own)."""
    for name in ("shop_domain", "myshopify_domain"):
        if isinstance(domain := payload.get(name), str):
            return domain.strip().lower()
    url = payload.get("order_status_url") if page else None
    host = _HOST.match(url) if isinstance(url, str) else None
    try:
        return keys.shop_domain(host[1]) if host is not None else None
    except BadEvent:
        return None


def normalised(email: str) -> str:
    """An e-mail as it is compared, hashed and sealed: trimmed and lowercased."""
    return email.strip().lower()


def told_of(topic: str, payload: dict[str, Any]) -> Told:
    """What a payload as it came tells of address and consent.

    An order tells its customer's address, else its own, and of consent only that it was given; customers/redact tells
    whose address is to be forgotten. BadEvent for half a surrogate pair in a customer's e-mail: in an order's it is
    none.
    """
    kind = _known(topic).kind
    if kind is Kind.SNAPSHOT:
        email = _email(_customer(payload).get("email"), spare=True) or _email(payload.get("email"), spare=True)
        agreed = email is not None and payload.get("buyer_accepts_marketing") is True
        return Told(email, consent="subscribed" if agreed else None)
    if kind is Kind.REDACT:
        return Told(_email(_customer(payload).get("email"), spare=True))
    if kind is Kind.CONSENT:
        return Told(_email(payload.get("email_address")), False, *_consent(payload))
    if kind is Kind.CUSTOMER:
        removed = "email" in payload and payload["email"] in (None, "")
        return Told(_email(payload.get("email")), removed, *_consent(payload))
    return Told()


def _customer(payload: dict[str, Any]) -> dict[str, Any]:
    return payload.get("customer") or {}


def _email(value: Any, spare: bool = False) -> str | None:
    """The address, normalised; None for what is none."""
    if not isinstance(value, str) or not value.strip() or len(value) > 320:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        if spare:
            return None
        raise BadEvent("bad_json", "half a surrogate pair in an e-mail") from None
    return normalised(value)


def _consent(payload: dict[str, Any]) -> tuple[str | None, str | None]:
    """Consent and its own time: from `email_marketing_consent`, or from `accepts_marketing` in older versions."""
    marketing = payload.get("email_marketing_consent")
    marketing = marketing if isinstance(marketing, dict) else {}
    state, accepts = marketing.get("state"), payload.get("accepts_marketing")
    if isinstance(state, str) and WORD.matches(state):
        consent = state.lower()  # who reads GraphQL writes SUBSCRIBED
    elif isinstance(accepts, bool):
        consent = "subscribed" if accepts else "not_subscribed"
    else:
        return None, None
    times = marketing.get("consent_updated_at"), payload.get("accepts_marketing_updated_at")
    return consent, next(filter(None, map(_time, times)), None)


def _time(value: Any) -> str | None:
    """The instant as we write it; None for what is none, so that nobody's consent is lost for it."""
    try:
        return instants.text(instants.parse(value))
    except BadEvent:
        return None


def resource_of(topic: str, payload: dict[str, Any]) -> Any:
    """The id a webhook is keyed by: the order's, or the customer's; None for a shop's own topics.

    A customer without one is known by the address, whose keyed id stands in a payload that was sealed.
    """
    found = TOPICS.get(topic)
    value: Any = payload
    for step in found.key if found is not None else ():
        value = (value or {}).get(step)
    if value is payload:
        return None
    if value is None and found is not None and found.kind in BY_ADDRESS:
        return payload.get("address")
    gid = isinstance(value, str) and value.startswith(_GID)
    return value.rpartition("/")[2] if gid else value


def key_of(topic: str, shop: str, payload: dict[str, Any]) -> str:
    """The Kafka key of a webhook; BadEvent where it lacks the id."""
    if not _known(topic).key:
        return shop
    return keys.join(shop, keys.customer_id(resource_of(topic, payload)))
