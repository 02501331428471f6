"""Which network addresses are everybody's: those that somebody else's server may have, and none of ours."""

import errno
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

#: Networks of IPv6 that lead on to an IPv4 address: NAT64's, whose last 32 bits it is.
_NAT64: Final = IPv6Network("64:ff9b::/96")

#: The words of the error of a connection that was not made.
REFUSED: Final = "not a public address"


def is_public(address: str) -> bool:
    """Whether an address is global and of one machine: not private, loopback, link-local, reserved or multicast.

    An IPv6 address that stands for an IPv4 one is what that is. False for what is no address.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and (inner := _inner(found)) is not None:
        return is_public(str(inner))
    return found.is_global and not found.is_multicast


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def public_socket(found: Sequence[Any]) -> socket.socket:
    """A socket to a public address alone, of what a name was resolved to (as getaddrinfo has it); else PermissionError.

    Asked where the connection is made (aiohttp's `socket_factory`): no name can first say one address and then another.
    """
    family, kind, protocol, _, address = found
    if not is_public(str(address[0])):
        raise PermissionError(errno.EACCES, REFUSED)
    return socket.socket(family, kind, protocol)
