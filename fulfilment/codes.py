"""The code of a redemption's discount: from a keyed hash of its request, so that it is the same whoever tries."""

from typing import Final

#: Upper case and digits without those that look alike (0 O, 1 I L, U V): 29 of them, so that twelve hold 58 bits.
_ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTWXYZ"

_LENGTH: Final = 12


def code(digest: bytes) -> str:
    """The code of a request's digest (32 bytes): `LN-` and 12 characters that can be read out."""
    left = int.from_bytes(digest, "big")
    letters = []
    for _ in range(_LENGTH):
        left, at = divmod(left, len(_ALPHABET))
        letters.append(_ALPHABET[at])
    return "LN-" + "".join(letters)
