"""The project's Prometheus metrics, all in one place: names, help and labels; docs/operations.md lists them."""

from prometheus_client import Counter, Gauge, Histogram

# --- the history sink --------------------------------------------------------------------------------------------

SINK_ROWS = Counter("loyalnest_sink_rows_total", "Rows the sink has committed, by the table they went to.", ["table"])
SINK_RECORDS = Counter(
    "loyalnest_sink_records_total", "Records whose rows and positions the sink has committed.", ["topic"]
)
SINK_BATCH_SECONDS = Histogram(
    "loyalnest_sink_batch_seconds",
    "Seconds from a batch's first record in hand to its commit.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
SINK_LAG = Gauge(
    "loyalnest_sink_position_lag",
    "Records between the sink's stored position and the end of the log, summed over the partitions it has.",
    ["topic"],
)
SINK_LOST = Counter(
    "loyalnest_sink_lost_records_total",
    "Offsets that the log's retention removed before the sink had read them.",
    ["topic"],
)
SINK_RETRIES = Counter(
    "loyalnest_sink_retries_total", "Batches the sink tried again, by the database's error.", ["error"]
)

# --- dead letters ------------------------------------------------------------------------------------------------

DEAD_LETTERS = Counter(
    "loyalnest_dead_letters_total",
    "Dead letters stored (the sink's own, the worker's, the front door's), by where the message came from and why.",
    ["source", "error"],
)
LATE_WINDOWS = Counter(
    "loyalnest_late_windows_total", "Windows that an order changed after the stream had let go of them.", ["size"]
)
UNKNOWN_STATUSES = Counter(
    "loyalnest_unknown_statuses_total", "Orders with a financial_status that is none of Shopify's; they do not count."
)

# --- the publisher -----------------------------------------------------------------------------------------------

PUBLISHED = Counter("loyalnest_published_total", "Messages made durable by the publisher.", ["topic"])
PUBLISH_ERRORS = Counter(
    "loyalnest_publish_errors_total", "Messages that could not be made durable.", ["topic", "error"]
)

# --- the worker --------------------------------------------------------------------------------------------------

RECORDS_FOLDED = Counter("loyalnest_records_folded_total", "Records that an agent has folded.", ["agent"])
RECORDS_REROUTED = Counter(
    "loyalnest_records_rerouted_total", "Records met under a wrong key or on a wrong partition, and sent on.", ["agent"]
)
GAPS = Counter(
    "loyalnest_gaps_total", "Times that records were missing before a piece of a log, and were read again.", ["topic"]
)

RECORDS_IGNORED = Counter(
    "loyalnest_records_ignored_total",
    "Webhooks of topics that we have no use for, met on Kafka and passed, by who passed them.",
    ["reader"],
)

# --- the front door and the API ---

WEBHOOKS = Counter(
    "loyalnest_webhooks_total",
    "Webhooks by topic and outcome: accepted, duplicate, ignored, dead_letter, unusable, unsigned, unavailable.",
    ["topic", "outcome"],
)
WEBHOOK_SECONDS = Histogram(
    "loyalnest_webhook_seconds",
    "Seconds from a webhook's whole body in hand to durable.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
HTTP_SECONDS = Histogram(
    "loyalnest_http_seconds",
    "Seconds from a request's headers to the end of its answer, by route and kind of status (2xx to 5xx).",
    ["method", "route", "status"],
    buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 60),
)
RATE_LIMITED = Counter(
    "loyalnest_rate_limited_total", "Requests answered 429, by whose quota was used up: address or key.", ["quota"]
)
EXPORTED_ROWS = Counter("loyalnest_exported_rows_total", "Rows written into CSV exports.")
LIVE_CLIENTS = Gauge("loyalnest_live_clients", "Clients that listen to server-sent events now.")

# --- notices ---

NOTICES = Counter(
    "loyalnest_notices_total",
    "Attempts to send a notice by outcome: done, failed; and notices given up: dead.",
    ["event", "outcome"],
)
NOTICE_SECONDS = Histogram(
    "loyalnest_notice_seconds",
    "Seconds that an attempt to send a notice took.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
NOTICES_WAITING = Gauge("loyalnest_notices_waiting", "Notices that have not arrived yet, of all shops.")
ENDPOINTS_RESTING = Gauge(
    "loyalnest_notice_endpoints_resting",
    "Endpoints to which nothing is sent for a while, after too many failures in a row.",
)

# --- fulfilment ---

FULFILMENTS = Counter(
    "loyalnest_fulfilments_total",
    "Attempts to make a redemption's discount by outcome: issued, failed (given up, its points return), retried, held"
    " back (a busy store, or one that does not let us in); untold: outcomes that have to be told again; and discounts"
    " of what was cancelled: withdrawn, or left in the store; unused: told that their time is over.",
    ["outcome"],
)
FULFILMENT_SECONDS = Histogram(
    "loyalnest_fulfilment_seconds",
    "Seconds that it took to make a discount in a store, or to fail to.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
FULFILMENTS_WAITING = Gauge(
    "loyalnest_fulfilments_waiting", "Accepted redemptions whose discount has not been made and told yet, of all shops."
)
FULFILMENT_SHOPS_RESTING = Gauge(
    "loyalnest_fulfilment_shops_resting",
    "Stores in which nothing is made for a while, after too many failures in a row or because they do not let us in.",
)
FULFILMENT_SHOPS_STOPPED = Gauge(
    "loyalnest_fulfilment_shops_stopped",
    "Stores that do not let us in, or whose token cannot be read: they must be set anew. Told by the API.",
)

# --- the batch ---------------------------------------------------------------------------------------------------

GATES_FAILED = Counter("loyalnest_gates_failed_total", "Quality gates that a batch did not pass, by gate.", ["gate"])
BATCHES = Counter(
    "loyalnest_batches_total", "Scheduled batches by outcome: done, stopped by a gate, failed.", ["outcome"]
)
PARITY_DIFFERENCES = Gauge(
    "loyalnest_parity_differences",
    "Differences between the stream's tables and the history, over all shops, when they were compared last.",
    ["kind"],
)
PARITY_AT = Gauge("loyalnest_parity_timestamp_seconds", "When all shops were compared last.")
