"""Who is whom: what makes two customers one, and in what order such words stand.

A customer *forwards* to another from a link on: a completed customers/merge (the deleted one to the kept one), or a
claim, by which a customer known by address alone (`mail-...`) is whoever is seen with that address. Of several links
the one with the greatest rank holds; ranks are text that sorts by code point.
"""

from hashlib import sha256
from typing import Any, Final

from events.errors import BadEvent
from events.webhook_topics import GID

_MOST_ID: Final = 10**20


def merge_rank(triggered_at: int, webhook_id: str, into: str) -> str:
    """A merge's rank: the newest holds. `triggered_at` in microseconds."""
    return f"{triggered_at:016x}{sha256(f'{webhook_id}/{into}'.encode()).hexdigest()[:8]}"


def claim_rank(customer_id: str) -> str:
    """A claim's rank: the oldest account holds, and Shopify's ids ascend."""
    return f"{_MOST_ID - int(customer_id):020d}"


def standing_alone(kept: str) -> str:
    """The rank of the word that a customer is themselves again: whoever is kept after having been merged."""
    return f"{kept}~"


def time_of(rank: str) -> int:
    """When a link came about (microseconds); 0 for a claim, which holds since ever."""
    return int(rank[:16], 16) if len(rank.rstrip("~")) == 24 else 0


def merged(payload: dict[str, Any]) -> tuple[str, str] | None:
    """(kept, deleted) of a customers/merge; None unless it is completed, and of two customers.

    BadEvent where an id is none.
    """
    if str(payload.get("status") or "").lower() != "completed":
        return None
    kept, deleted = (_customer(payload.get(f"admin_graphql_api_customer_{which}_id")) for which in ("kept", "deleted"))
    return None if kept == deleted else (kept, deleted)


def _customer(gid: Any) -> str:
    if not isinstance(gid, str) or not GID.matches(gid):
        raise BadEvent("bad_id", "not a customer's id")
    return gid.rpartition("/")[2]
