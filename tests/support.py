"""What several tests share: the data in tests/data, and reading it as webhooks."""

from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
CDNOW = DATA / "cdnow" / "cdnow_sample.txt"
CDNOW_SHOP = "cdnow.myshopify.com"

#: The segments of CDNOW as of 1998-07-01T00:00Z with a look-back of 365 days, by an implementation of its own.
CDNOW_SEGMENTS = {
    "Prospects": 1545,
    "Dormant": 199,
    "Loyal": 156,
    "Champions": 112,
    "At risk": 107,
    "Active": 97,
    "Almost lost": 59,
    "Needs attention": 38,
    "Promising": 18,
    "Previously loyal": 17,
    "New": 9,
}


@cache
def _cdnow_rows() -> list[tuple[str, str, str]]:
    """Customer (its id in the full data set), time and amount of every transaction, in the file's order."""
    rows = []
    for line in CDNOW.read_text(encoding="ascii").splitlines():
        customer, _in_sample, day, _quantity, amount = line.split()
        rows.append((str(int(customer)), f"{day[:4]}-{day[4:6]}-{day[6:]}T12:00:00Z", amount))
    return rows


def cdnow_envelopes(shop: str = CDNOW_SHOP) -> list[dict[str, Any]]:
    """The CDNOW sample as one orders/paid a line, in the file's order; each line is an order of its own.

    A date without a time means 12:00 UTC; triggered_at is the order's time.
    """
    return [
        {
            "topic": "orders/paid",
            "shop": shop,
            "webhook_id": f"cdnow-{number}",
            "event_id": f"cdnow-event-{number}",
            "api_version": "2026-07",
            "triggered_at": at,
            "received_at": at,
            "payload": {
                "id": number,
                "created_at": at,
                "processed_at": at,
                "updated_at": at,
                "cancelled_at": None,
                "financial_status": "paid",
                "test": False,
                "currency": "USD",
                "subtotal_price": amount,
                "subtotal_price_set": {"shop_money": {"amount": amount, "currency_code": "USD"}},
                "current_subtotal_price": amount,
                "current_subtotal_price_set": {"shop_money": {"amount": amount, "currency_code": "USD"}},
                "customer": {"id": int(customer)},
                "line_items": [],
                "refunds": [],
            },
        }
        for number, (customer, at, amount) in enumerate(_cdnow_rows(), start=1)
    ]


class WellPublisher:
    """What every publisher of a test has besides `publish`: it is well, and has nothing to close."""

    def failed(self) -> str | None:
        return None

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        pass
