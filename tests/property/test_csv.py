"""An export's lines, against csv.writer over the same rows."""

import csv
import io
from collections.abc import Mapping
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from api import export_cells, export_rows
from api.questions import COLUMNS, Question
from events import instants, money
from events.payloads import Contact

TEXT = st.text(st.sampled_from("aé=+-@,;\"'\t\r\n 0"), max_size=6)
DIGIT = st.none() | st.integers(1, 5)
INSTANT = st.integers(0, instants.parse("9998-01-01T00:00:00Z")) | st.integers(0, 4_000_000_000).map(
    lambda second: second * instants.SECOND
)
ROW = st.fixed_dictionaries(
    {
        "recency_days": st.none() | st.integers(0, 5000),
        "frequency": st.integers(0, 5000),
        "monetary": st.integers(-money.MAX_MINOR, money.MAX_MINOR) | st.integers(-1000, 1000),
        "currency": st.sampled_from(["USD", "JPY", "KWD"]),
        **dict.fromkeys("rfm", DIGIT),
        "score": st.none() | st.sampled_from(["1.0", "4.7"]),
        "segment_id": st.just("seg_545"),
        "segment": TEXT,
        "balance": st.integers(-(10**13), 10**13),
        **dict.fromkeys(("pending", "earned", "spent", "expired", "expiring"), st.none() | st.integers(0, 10**13)),
        "expires_at": st.none() | INSTANT,
        "last_order_at": st.none() | INSTANT,
        "as_of": INSTANT,
        "cut_points_version": TEXT,
    }
)
CONTACT = st.builds(Contact, st.none() | TEXT, st.none() | st.sampled_from(["subscribed", "pending"]) | TEXT)
CUSTOMERS = st.lists(st.tuples(ROW, st.none() | CONTACT), min_size=1, max_size=8)


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _reference(rows: list[dict[str, Any]], contacts: Mapping[str, Contact], addresses: bool, excel: bool) -> bytes:
    """The lines as csv.writer writes them, a row at a time."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    for row in rows:
        contact = contacts.get(row["customer_id"], Contact(None, None))
        address = consent = None
        if contact.email is not None:
            email = contact.email.strip().lower()
            address = _safe(email) if addresses else sha256(email.encode()).hexdigest()
        if contact != (None, None):
            consent = _safe(contact.consent or "not_subscribed")
        writer.writerow(
            [
                f"'{row['customer_id']}" if excel else row["customer_id"],
                address,
                consent,
                row["recency_days"],
                row["frequency"],
                money.decimal_text(row["monetary"], row["currency"]),
                *(row[name] for name in ("currency", "r", "f", "m", "score", "segment_id")),
                _safe(row["segment"]),
                *(row[name] for name in ("balance", "pending", "earned", "spent", "expired", "expiring")),
                *(None if row[at] is None else instants.text(row[at]) for at in ("expires_at", "last_order_at")),
                instants.text(row["as_of"]),
                _safe(row["cut_points_version"]),
            ]
        )
    return out.getvalue().encode()


@given(CUSTOMERS, st.booleans(), st.booleans())
def test_lines_are_as_a_plain_writer_has_them(
    customers: list[tuple[dict[str, Any], Contact | None]], addresses: bool, excel: bool
) -> None:
    rows = [{"customer_id": str(at), **row} for at, (row, _) in enumerate(customers)]
    contacts = {str(at): contact for at, (_, contact) in enumerate(customers) if contact is not None}
    told = [contact or Contact(None, None) for _, contact in customers]
    values = export_rows.with_told(
        pl.DataFrame(rows, schema=export_cells.VALUES), [each.email for each in told], [each.consent for each in told]
    )
    export: Any = SimpleNamespace(question=Question(excel=excel), zone="UTC")
    names = ["email" if addresses and name == "email_sha256" else name for name in COLUMNS]
    export.layout = dict(zip(names, names, strict=True))
    export.parts = export_cells.parts(names)
    assert export_rows.lines(export, values) == _reference(rows, contacts, addresses, excel)
