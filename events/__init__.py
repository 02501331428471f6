"""The contract: Shopify payloads, the records on our topics, money, instants, keys and codecs. No I/O."""

from zoneinfo import reset_tzpath

# A shop's days must not depend on the machine: the rules of time zones are those of the package that is pinned,
# tzdata, not the system's, which may be a year older here than there.
reset_tzpath(to=())
