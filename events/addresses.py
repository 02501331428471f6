"""E-mail addresses as others compare them: a normal form for each, and its SHA-256. Pure."""

import re
from hashlib import sha256
from typing import Final

from events.payloads import normalised

#: Whose mail ignores dots in a name, and what stands behind a plus: Google matches such addresses without either.
_GOOGLE: Final = frozenset({"gmail.com", "googlemail.com"})

_SPACE: Final = re.compile(r"\s+")


def plain(email: str) -> str:
    """Trimmed and lowercased: as our own exports have it, Klaviyo, Mailchimp and Meta."""
    return normalised(email)


def for_google(email: str) -> str:
    """As Google's customer match compares it: lowercased, without any space, and of its own mail domains (gmail.com,
    googlemail.com) without dots and +suffix before the @. The domain stays the one that was told."""
    name, at, domain = _SPACE.sub("", email).lower().rpartition("@")
    if domain in _GOOGLE:
        name = name.partition("+")[0].replace(".", "")
    return f"{name}{at}{domain}"


def hashed(text: str) -> str:
    """SHA-256 of the text in UTF-8, as 64 lowercase hexadecimal digits."""
    return sha256(text.encode()).hexdigest()
