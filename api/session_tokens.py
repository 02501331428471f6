"""Session tokens: how Shopify's admin says who opens an embedded app.

A JWT, signed with HS256 by the app's client secret, for the app (`aud`), of a shop (`dest`), for a minute (`nbf`,
`exp`). Facts: shopify.dev, "Session tokens".
"""

from typing import Any, Final
from urllib.parse import urlsplit

import jwt

from books import api_keys
from events import keys
from events.errors import BadEvent
from runtime.settings import Settings

#: Clocks may differ by this (seconds).
_LEEWAY: Final = 5

#: What whoever is signed in at Shopify's admin may do here: who may change the program may give and take points, and
#: redeem, as well. Addresses need an API key that names them.
_SCOPES: Final = frozenset({"read", "export", "adjust", "redeem", "till", "fulfil", "admin"})

_NEEDED: Final = ["iss", "dest", "aud", "sub", "exp", "nbf"]


def looks_like_one(secret: str) -> bool:
    """Whether it has the shape of a JWT; API keys have none of its dots."""
    return secret.count(".") == 2


class SessionTokens:
    """Checks session tokens, if the app's client id is set."""

    def __init__(self, settings: Settings) -> None:
        self._client_id = settings.shopify_client_id
        self._secrets = [secret.get_secret_value() for secret in settings.shopify_secrets]

    def granted(self, token: str, now_us: int) -> api_keys.Granted | None:
        """What a token allows as of `now_us`, for its shop; None if it is not valid, or none are taken here."""
        for secret in self._secrets if self._client_id is not None else ():
            try:
                told: dict[str, Any] = jwt.decode(
                    token,
                    secret,
                    algorithms=["HS256"],
                    audience=self._client_id,
                    # The times are held against our own argument below.
                    options={"require": _NEEDED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
                )
            except jwt.InvalidTokenError:
                continue
            return _granted(told, now_us // 1_000_000)
        return None


def _granted(told: dict[str, Any], now: int) -> api_keys.Granted | None:
    nbf, exp = told["nbf"], told["exp"]
    if not all(type(each) is int for each in (nbf, exp)) or not nbf - _LEEWAY <= now < exp + _LEEWAY:
        return None
    dest, iss = urlsplit(str(told["dest"])), urlsplit(str(told["iss"]))
    if dest.scheme != "https" or dest.netloc != iss.netloc:
        return None
    try:
        shop = keys.shop_domain(dest.netloc)
    except (BadEvent, ValueError):
        return None
    return api_keys.Granted(f"shopify-{told['sub']}", (shop,), _SCOPES, "shopify")
