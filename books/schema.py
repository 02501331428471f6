"""Every table of the database, once: who asks whether it is derived, grows with time, or names a customer, asks here.

What the columns are in detail (types, keys, indexes) stands in sql/; a test compares this list with what `migrate`
makes, so that a new table cannot be forgotten by a rebuild, by a data request or by TimescaleDB.
"""

from typing import Final, Literal, NamedTuple

#: Whose data a row is. `customer`: it has columns shop and customer_id. `inside`: its text may name customers.
Personal = Literal["customer", "inside"]


class Hypertable(NamedTuple):
    """How a table that grows with time is cut into chunks, by `column`.

    History may begin decades ago (a played file from 1997), and each chunk costs planning time: hence the long
    intervals. raw_events alone goes by arrival.
    """

    column: str
    chunk_days: int
    compress_days: int | None = None  # community: chunks older than this are compressed
    order_by: str = ""


class Table(NamedTuple):
    """A table. `columns` are filled by whoever writes a row, `defaults` by the database.

    `derived`: all of it comes again from raw_events, so a rebuild empties it. `sink`: the history sink writes it.
    """

    name: str
    columns: tuple[str, ...]
    defaults: tuple[str, ...] = ()
    derived: bool = False
    sink: bool = False
    hypertable: Hypertable | None = None
    personal: Personal | None = None


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TABLES: Final = (
    # What came in
    Table(
        "raw_events",
        _names("received_at stream key shop webhook_topic webhook_id triggered_at value"),
        _names("id xid"),
        sink=True,
        hypertable=Hypertable("received_at", 7, 30, "received_at, id"),
        personal="inside",
    ),
    Table("programs", _names("shop program updated_at"), _names("judged_to"), sink=True),
    Table("program_versions", _names("shop announced_at tag program"), sink=True),
    Table("announcements", _names("shop announced_at program")),
    Table("cut_points", _names("shop version as_of customers recency frequency monetary"), sink=True),
    # What the stream made of it
    Table(
        "customers",
        _names(
            "shop customer_id now currency balance pending earned spent expired expiring expires_at recency_days"
            " frequency monetary last_order_at r f m score"
            " segment_id segment cut_points_version contact contact_at consent consent_at consent_by_order deleted"
            " redacted merged_into fence"
        ),
        _names("stored_at"),
        derived=True,
        sink=True,
        personal="customer",
    ),
    Table(
        "rfm_segment_counts",
        _names("shop segment customers monetary balance frequency recency_days recent"),
        _names("stored_at"),
        derived=True,
    ),
    Table(
        "points_totals",
        _names("shop source source_id customer_id via revision total processed_at"),
        derived=True,
        sink=True,
        personal="customer",
    ),
    Table(
        "points_transactions",
        _names("posted_at id shop customer_id source source_id kind points revision processed_at via"),
        derived=True,
        sink=True,
        hypertable=Hypertable("posted_at", 90, 365, "customer_id, posted_at"),
        personal="customer",
    ),
    Table(
        "points_expired",
        _names("shop customer_id day zone at points fence"),
        derived=True,
        sink=True,
        personal="customer",
    ),
    Table(
        "rfm_score_history",
        _names(
            "at id shop customer_id recency_days frequency monetary r f m score segment_id segment"
            " cut_points_version cause"
        ),
        derived=True,
        sink=True,
        hypertable=Hypertable("at", 90, 365, "customer_id, at"),
        personal="customer",
    ),
    Table(
        "rfm_segment_deltas",
        _names("at id shop customer_id previous_segment segment cause"),
        derived=True,
        sink=True,
        hypertable=Hypertable("at", 90, 365, "at"),
        personal="customer",
    ),
    Table(
        "points_windows",
        _names(
            "start shop size zone partition currency orders net points_earned points_reversed customers guest_orders"
            " guest_net points_awarded points_redeemed fence"
        ),
        derived=True,
        sink=True,
        # Never compressed: an order of any age may restate its windows.
        hypertable=Hypertable("start", 90),
    ),
    Table(
        "awards",
        _names("shop customer_id award_id at points reason source counts_as_earned voided_at"),
        _names("stored_at"),
        derived=True,
        sink=True,
        personal="customer",
    ),
    Table("late_windows", _names("shop size zone start"), _names("noted_at"), derived=True, sink=True),
    Table(
        "redemptions",
        _names(
            "shop customer_id request_id revision reward_id cost forced seq requested_at decided_at accepted reason"
            " balance status points returned_reason attempt code valid_until purpose source"
        ),
        _names("stored_at"),
        derived=True,
        sink=True,
        personal="customer",
    ),
    # The batch's
    Table(
        "batch_runs",
        _names("id shop as_of version status customers rescored rounds detail started_at finished_at"),
        _names("published webhooks scored differ seconds attempt quality"),
    ),
    Table(
        "batch_segments",
        _names(
            "run_id shop customer_id balance recency_days frequency monetary last_order_at r f m score segment_id"
            " segment"
        ),
        personal="customer",
    ),
    Table("segment_sizes", _names("shop as_of run_id segment customers monetary balance"), _names("noted_at")),
    Table(
        "product_rfm",
        _names(
            "shop item variant product_id sku as_of currency recency_days last_order_at frequency pieces monetary"
            " buyers repeat_buyers first_orders came_back segments"
        ),
    ),
    # The books
    Table(
        "dead_letters",
        _names("at id shop source partition offset key error detail value sealed"),
        _names("replayed_at"),
        sink=True,
        hypertable=Hypertable("at", 90),
        personal="inside",
    ),
    Table(
        "imports",
        _names("id shop file sha256 bytes status first_at started_at updated_at"),
        _names(
            "format detail lines line from_line position orders customers rejected problems notes finished_at batch_due"
            " spooled_at"
        ),
    ),
    Table(
        "exports",
        _names("id shop asked_by way asked_at question scopes status"),
        _names("detail attempt customers done rows bytes started_at finished_at kept_until"),
    ),
    Table(
        "award_claims",
        _names("shop customer_id award_id at points reason source counts_as_earned checked"),
        _names("claimed_at"),
        personal="customer",
    ),
    Table(
        "redemption_claims",
        _names("shop customer_id request_id reward_id cost program_at forced_at"),
        _names("claimed_at"),
        personal="customer",
    ),
    Table("api_keys", _names("id shop name hash scopes created_at"), _names("more_shops revoked_at")),
    Table(
        "dashboard_sessions",
        _names("id hash shops scopes key_id way created_at seen_at expires_at"),
        _names("revoked_at"),
    ),
    Table("sign_in_links", _names("hash shops scopes expires_at"), _names("used_at")),
    Table("customer_keys", _names("shop customer_id wrapped"), _names("created_at destroyed_at"), personal="customer"),
    # What integrators are told, and were: no rebuild empties these
    Table(
        "notice_endpoints",
        _names("id shop url events created_at"),
        _names("failures rests_until worked_at held_by held_until"),
    ),
    Table(
        "notices",
        _names("endpoint shop customer_id message event body"),
        _names("id status attempts code error created_at since due_at finished_at"),
        personal="customer",
    ),
    Table("notice_marks", _names("shop customer_id at"), personal="customer"),
    # Discounts to be made in Shopify for redemptions: likewise
    Table(
        "fulfilment_shops",
        _names("shop endpoint token enabled"),
        _names("set_at rests_until rests_why failures failing_since last_error"),
    ),
    Table(
        "fulfilment_work",
        _names("shop customer_id request_id"),
        _names(
            "attempts created_at due_at failing_since held_by held_until last_error outcome reason code valid_until"
            " finished_at withdrawal"
        ),
        personal="customer",
    ),
    Table("sink_positions", _names("incarnation topic partition next_offset")),
    Table("stream_lag", _names("noted_at waiting worker worker_read_to sink sink_read_to"), _names("singular")),
)

BY_NAME: Final = {table.name: table for table in TABLES}

#: What `rebuild` empties.
DERIVED: Final = tuple(table.name for table in TABLES if table.derived)
