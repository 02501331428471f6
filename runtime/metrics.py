"""Every metric, in this one place; docs/operations.md lists them and is tested against it.

A process serves the default registry: the API at /metrics, a worker and a sink at the port of `worker_port`.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# --- the front door and the API ---

WEBHOOKS: Final = Counter(
    "loyalnest_webhooks",
    "Webhooks by Shopify topic and outcome: accepted, duplicate, dead_letter, unsigned or unavailable",
    ["topic", "outcome"],
)
WEBHOOK_SECONDS: Final = Histogram(
    "loyalnest_webhook_seconds",
    "From the whole body read to durable",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
REQUESTS: Final = Counter("loyalnest_api_requests", "Requests by route and status", ["route", "status"])
EXPORTED_ROWS: Final = Counter("loyalnest_exported_rows", "Rows written into CSV exports")
LIVE_CLIENTS: Final = Gauge("loyalnest_live_clients", "Clients that listen to server-sent events now")
