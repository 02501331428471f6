"""The Kafka topics: their names, what each is for, and the settings `loyalnest topics create` gives them."""

from typing import NamedTuple

DAY_MS = 86_400_000

ORDERS = "shopify.orders"
CUSTOMERS = "shopify.customers"
SHOPS = "shopify.shops"
REQUESTS = "loyalnest.requests"
ACCOUNT_FACTS = "loyalnest.account-facts"
REDEMPTIONS = "loyalnest.redemptions"
POINTS = "loyalnest.points"
CUSTOMER_ROWS = "loyalnest.customers"
RFM = "loyalnest.rfm"
WINDOWS = "loyalnest.windows"
PROGRAMS = "loyalnest.programs"
CUT_POINTS = "loyalnest.cut-points"
RESCORE = "loyalnest.rescore"
DEAD_LETTERS = "loyalnest.dead-letters"

#: Bodies up to 10 MB are taken; an envelope around one is a little longer.
MAX_MESSAGE_BYTES = 12 * 1024 * 1024


#: What others may write, or somebody forge: their records bear the broker's own time.
INPUTS = (ORDERS, CUSTOMERS, SHOPS, REQUESTS, PROGRAMS, CUT_POINTS, RESCORE)


class Topic(NamedTuple):
    """A topic: `keyed` ones share the one partition count, so that a customer's records meet in one worker."""

    name: str
    keyed: bool
    compacted: bool
    retention_ms: int
    carries: str

    def config(self) -> dict[str, str]:
        """Kafka's settings of the topic. Retention -1 keeps for ever."""
        return {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            # A producer's own idea of the time would be believed where the broker's is meant to bound it.
            "message.timestamp.type": "LogAppendTime" if self.name in INPUTS else "CreateTime",
        }


ALL = (
    Topic(ORDERS, True, False, 30 * DAY_MS, "envelopes of order and refund webhooks"),
    Topic(CUSTOMERS, True, False, 30 * DAY_MS, "envelopes of customer and privacy webhooks"),
    Topic(SHOPS, True, False, 30 * DAY_MS, "app/uninstalled and shop/redact"),
    Topic(REQUESTS, True, False, 30 * DAY_MS, "awards, redemptions and what came of them, as they were asked for"),
    Topic(
        ACCOUNT_FACTS, True, False, 7 * DAY_MS, "the account log: all that changes a customer's points, and who is whom"
    ),
    Topic(
        REDEMPTIONS,
        True,
        False,
        30 * DAY_MS,
        "a redemption's absolute row: what was decided, once, and what came of it",
    ),
    Topic(POINTS, True, False, 30 * DAY_MS, "what one source (an order) has posted in all; what ran out on a day"),
    Topic(CUSTOMER_ROWS, True, True, -1, "a customer's absolute row"),
    Topic(RFM, True, False, 30 * DAY_MS, "rfm.updated: digits, segment or version changed"),
    Topic(WINDOWS, True, False, 7 * DAY_MS, "a window's partial row of one partition"),
    Topic(PROGRAMS, False, False, -1, "a shop's program"),
    Topic(CUT_POINTS, False, False, -1, "the batch's thresholds"),
    Topic(RESCORE, True, False, 7 * DAY_MS, "the batch asks some of a shop's customers: score yourselves"),
    Topic(DEAD_LETTERS, False, False, 90 * DAY_MS, "messages that could not be used"),
)

BY_NAME = {topic.name: topic for topic in ALL}
