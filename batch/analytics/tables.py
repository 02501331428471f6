"""The tables and views of the analysts' file: what each holds, and by which SQL it is filled.

The SQL reads the relations that staging.py names (`staged_...`) and tables that stand before it in the list, with
these macros: `total` (minor units as a decimal number of major units), `local` (an instant by the clocks of the shop)
and `shown` (a customer's id, without any hash of an address). `{made_at}` is when the file was made, `{look_back_from}`
where the look-back that ends there begins.
"""

from typing import Final

from batch.analytics import products
from batch.analytics.words import CUSTOMER, LOCAL, MINOR, MONEY, UTC, Table, local, money
from events.orders import COUNTING

#: Of the file's shape: it stands in `about`.
VERSION: Final = 3

_COUNTING: Final = ", ".join(f"'{status}'" for status in sorted(COUNTING))

_DIGITS: Final = {
    "segment": "the segment's name in the shop's grid; Prospects: without an order in the look-back",
    "segment_id": "seg_ and the three digits; seg_000: Prospects",
    "r": "recency's digit, 1 to 5, 5 best; null: a Prospect",
    "f": "frequency's digit, 1 to 5, 5 best; null: a Prospect",
    "m": "monetary's digit, 1 to 5, 5 best; null: a Prospect",
    "score": "0.4 R + 0.3 F + 0.3 M; null: a Prospect",
}

#: What of a standing its digits say.
_OF_DIGITS: Final = {
    "segment_id": "CASE WHEN r IS NULL THEN 'seg_000' ELSE 'seg_' || r || f || m END",
    "score": "((4 * r + 3 * f + 3 * m) * 0.1)::DECIMAL(2, 1)",
}

TABLES: Final = (
    Table(
        "about",
        "The shop and this file, in one row.",
        {
            "shop": "the shop's domain",
            "currency": "of all money in this file, by ISO 4217",
            "decimals": "decimal places of the currency's minor unit",
            "zone": "the shop's time zone: of every column that ends in _local, and of days and months",
            "look_back_days": "RFM looks at the orders of so many days; null: of a customer's whole life",
            "made_at": "when this file was made, an instant: what happens later does not count in it",
            "version": "of the tables' shape",
        },
        "SELECT {shop}, {currency}, {decimals}, {zone}, {look_back_days}, {made_at}, {version}",
    ),
    Table(
        "orders",
        "Every order in its newest version; whether it counts, and if not why.",
        {
            "order_id": "the order's id at Shopify",
            "customer_id": f"whose it is now, after all merges: {CUSTOMER}; null: nobody's",
            "processed_at": f"when it happened, {UTC}",
            "processed_local": f"the same {LOCAL}",
            "counted": "whether it counts: then it makes points, RFM and revenue (docs/meaning.md)",
            "reason": "why it does not count: deleted, test, cancelled, refunded, not paid, guest; null: it counts",
            "status": "financial status at Shopify, lowercase",
            "channel": "source_name at Shopify: web, pos, an app's name; null: not told",
            "discount_codes": "codes that the buyer entered",
            "net": f"what it is worth after refunds, without gift cards and postage, {MONEY}",
            "net_minor": f"net {MINOR}",
            "gross": f"what it was worth when it was placed, {MONEY}; says nothing of an order that was never paid",
            "gross_minor": f"gross {MINOR}",
            "points_earned": "points given for it as it was placed",
            "points_reversed": "points of those that were taken back",
            "nth": "which of the customer's orders worth more than 0 that count it is, from 1; null: none of these, or"
            " yet to come (after about.made_at)",
        },
        f"""
        SELECT o.order_id, shown(o.customer_id), o.processed, local(o.processed), o.counted,
               CASE WHEN o.counted THEN NULL WHEN o.deleted THEN 'deleted' WHEN o.test THEN 'test'
                    WHEN o.cancelled THEN 'cancelled' WHEN o.status = 'refunded' THEN 'refunded'
                    WHEN o.status NOT IN ({_COUNTING}) THEN 'not paid' ELSE 'guest' END,
               o.status, l.source, coalesce(l.discount_codes, []), o.net, o.gross, o.earned, o.reversed, o.nth
        FROM (
            SELECT *, CASE WHEN counted AND net > 0 AND processed <= {{made_at}} THEN row_number() OVER (
                PARTITION BY customer_id, counted AND net > 0 ORDER BY processed, order_id) END AS nth
            FROM staged_orders
        ) AS o LEFT JOIN (SELECT order_id, source, discount_codes FROM staged_lines) AS l USING (order_id)
        """,
        derived={"net": money("net_minor"), "gross": money("gross_minor")},
    ),
    Table(
        "order_lines",
        "What was in each order, as its newest version tells. (A refund that came later than it is in refunds alone.)",
        {
            "order_id": "the order's id at Shopify",
            "line": "which line of the order, from 1",
            "product_id": "the product's id at Shopify; null: not told, as in a file of orders",
            "variant_id": "the variant's id at Shopify; null: not told",
            "sku": "the merchant's own number; null: not told",
            "item": "what products are told apart by: product_id, without one sku:...; null: neither, or a gift card",
            "gift_card": "a gift card is money, and no product: its value is not in the order's net",
            "quantity": "pieces ordered",
            "pieces": "pieces that neither an edit nor a refund took away",
            "price": f"of one piece, {MONEY}",
            "price_minor": f"price {MINOR}",
            "discount": f"of all pieces ordered together, {MONEY}",
            "discount_minor": f"discount {MINOR}",
            "amount": f"what the pieces left are worth, after their share of the discount, {MONEY}",
            "amount_minor": f"amount {MINOR}",
        },
        """
        WITH l AS (
            SELECT order_id, unnest(range(1, len(quantities) + 1)) AS line, unnest(product_ids) AS product_id,
                   unnest(variant_ids) AS variant_id, unnest(skus) AS sku, unnest(gift_cards) AS gift_card,
                   unnest(quantities) AS quantity, unnest("left") AS pieces, unnest(prices) AS price,
                   unnest(discounts) AS discount
            FROM staged_lines
        ), valued AS (
            SELECT *, CASE WHEN quantity = 0 THEN 0 ELSE least(greatest(price::HUGEINT * pieces
                       - CASE WHEN discount = 0 THEN 0
                              ELSE (2 * discount::HUGEINT * pieces + quantity) // (2 * quantity) END, 0), {most})
                   END AS amount
            FROM l
        )
        SELECT order_id, line, product_id, variant_id, sku, gift_card, quantity, pieces, price, discount, amount::BIGINT
        FROM valued
        """,
        derived={
            "item": "CASE WHEN NOT gift_card THEN coalesce(product_id, 'sku:' || sku) END",
            **{name: money(f"{name}_minor") for name in ("price", "discount", "amount")},
        },
    ),
    Table(
        "refunds",
        "Every refund of an order.",
        {
            "order_id": "the order's id at Shopify",
            "refund_id": "the refund's id at Shopify",
            "refunded_at": f"when, {UTC}",
            "refunded_local": f"the same {LOCAL}",
            "goods": f"what the goods given back were worth, {MONEY}",
            "goods_minor": f"goods {MINOR}",
            "beyond": f"what was given back beyond the goods, out of goodwill, {MONEY}",
            "beyond_minor": f"beyond {MINOR}",
            "paid": f"the money that was paid back, for whatever, {MONEY}; null: not told",
            "paid_minor": f"paid {MINOR}; null: not told",
        },
        """
        SELECT order_id, refund_id, refunded, goods, beyond, nullif(paid, -1) FROM staged_refunds
        """,
        derived={
            "refunded_local": local("refunded_at"),
            **{name: money(f"{name}_minor") for name in ("goods", "beyond", "paid")},
        },
    ),
    Table(
        "customers",
        "Everybody the shop knows: where they stand now, and their orders of all times. No names, no addresses.",
        {
            "customer_id": CUSTOMER,
            **_DIGITS,
            "recency_days": "whole days of 86,400 seconds from their latest order to as_of; null: a Prospect",
            "frequency": "orders in the look-back that count and are worth more than 0",
            "monetary": f"their net in sum, {MONEY}",
            "monetary_minor": f"monetary {MINOR}",
            "points_balance": "points that they can spend; below 0: that they owe",
            "points_pending": "points that they cannot spend yet",
            "points_earned": "points ever earned less those reversed, whatever became of them",
            "points_spent": "points that were taken: redeemed, or deducted by hand",
            "points_expired": "points that have run out",
            "points_expiring": "points that run out next, should nothing happen before",
            "points_expire_at": f"when these do, {UTC}; null: none do",
            "points_expire_local": f"the same {LOCAL}",
            "as_of": f"{UTC}, of which all these hold: the customer's latest event, or a later batch",
            "cut_points_version": "the cut points that made the digits (cut_points.version)",
            "orders": "their orders of all times that count and are worth more than 0",
            "net": f"what these are worth in sum, {MONEY}",
            "net_minor": f"net {MINOR}",
            "first_order_at": f"the first of these, {UTC}; null: none",
            "first_order_local": f"the same {LOCAL}",
            "last_order_at": f"the last of these, {UTC}; null: none",
            "last_order_local": f"the same {LOCAL}",
            "merged_into": "whom all that was theirs went to; null: they are themselves",
            "deleted": "the shop has deleted them",
            "redacted": "their personal data were erased",
        },
        """
        SELECT shown(c.customer_id), c.segment, c.r, c.f, c.m, c.recency_days, c.frequency, c.monetary, c.balance,
               c.pending, c.earned, c.spent, c.expired, c.expiring, c.expires_at, c.now,
               c.cut_points_version, coalesce(o.orders, 0), coalesce(o.net, 0), o.first, o.last,
               shown(c.merged_into), c.deleted, c.redacted
        FROM staged_customers AS c LEFT JOIN (
            SELECT customer_id, count(*) AS orders, sum(net)::BIGINT AS net, min(processed) AS first,
                   max(processed) AS last
            FROM staged_orders WHERE counted AND net > 0 AND processed <= {made_at} GROUP BY customer_id
        ) AS o USING (customer_id)
        """,
        derived={
            **_OF_DIGITS,
            "monetary": money("monetary_minor", 19),
            "net": money("net_minor", 19),
            "points_expire_local": local("points_expire_at"),
            "first_order_local": local("first_order_at"),
            "last_order_local": local("last_order_at"),
        },
    ),
    Table(
        "rfm_changes",
        "Every change of a customer's digits, segment or cut points, as an event or a batch brought it about.",
        {
            "customer_id": CUSTOMER,
            "changed_at": f"since when, {UTC}",
            "changed_local": f"the same {LOCAL}",
            "until": f"the customer's next change, {UTC}; null: it holds still",
            "previous_segment": "the segment before; null: their first",
            **_DIGITS,
            "recency_days": "whole days since their latest order then; null: a Prospect",
            "frequency": "orders in the look-back then",
            "monetary": f"their net in sum, {MONEY}",
            "monetary_minor": f"monetary {MINOR}",
            "cut_points_version": "the cut points that made the digits (cut_points.version)",
            "cause": "what it came of: an order, or rescore (a batch)",
        },
        """
        SELECT shown(customer_id), changed, lead(changed) OVER theirs, lag(segment) OVER theirs, segment, r, f, m,
               recency_days, frequency, monetary, cut_points_version, cause
        FROM staged_changes WINDOW theirs AS (PARTITION BY customer_id ORDER BY changed, id)
        """,
        derived={
            **_OF_DIGITS,
            "changed_local": local("changed_at"),
            "monetary": money("monetary_minor", 19),
        },
    ),
    Table(
        "points_ledger",
        "Every change that somebody made to points. Of a customer, up to as_of, all together less what ran out"
        " (points_expired) are points_balance and points_pending.",
        {
            "entry_id": "the entry's id, a UUID",
            "customer_id": f"whose points: {CUSTOMER}",
            "posted_at": f"when that was, {UTC}",
            "posted_local": f"the same {LOCAL}",
            "kind": "earned or reversed, of an order; adjusted, of an award or a deduction, or as one is taken back;"
            " redeemed or returned, of a redemption",
            "points": "above 0 given, below 0 taken",
            "source": "what it is for: order, award (given by hand), deduction (taken by hand), redeem (a redemption)",
            "source_id": "the order's id at Shopify; the name of an award, a deduction or a redemption",
            "processed_at": f"when the order, or what else it is for, happened, {UTC}",
            "via": "by way of whom it came, who was merged into the customer; null: their own",
        },
        """
        SELECT id, shown(customer_id), posted_at, kind, points, source, source_id, processed_at, shown(nullif(via, ''))
        FROM staged_ledger
        """,
        derived={"posted_local": local("posted_at")},
    ),
    Table(
        "points_expired",
        "What ran out of a customer's points on one day, as it is known now. Of a customer all days together are the"
        " points_expired of their row.",
        {
            "customer_id": f"whose points: {CUSTOMER}",
            "day": "the day in the shop's zone",
            "expired_at": f"when they ran out, as that day began, {UTC}",
            "points": "how many, above 0",
        },
        "SELECT shown(customer_id), day, ended, points FROM staged_expired",
    ),
    Table(
        "windows",
        "Sums of what happened in a minute, an hour or a day: orders, and points given and taken beside them.",
        {
            "size": "minute, hour (both of UTC) or day (the shop's)",
            "starts_at": f"its first instant, {UTC}; its last is before the next one's",
            "starts_local": f"the same {LOCAL}",
            "closed": "too old for the stream: worked out by the batch",
            "orders": "orders that count",
            "net": f"their net in sum, {MONEY}",
            "net_minor": f"net {MINOR}",
            "points_earned": "points given for the orders as they were placed",
            "points_reversed": "points of those that were taken back",
            "customers": "distinct customers of the orders that count",
            "guest_orders": "orders that would count, had they a customer",
            "guest_net": f"their net in sum, {MONEY}",
            "guest_net_minor": f"guest_net {MINOR}",
            "points_awarded": "points given by hand less those deducted by hand, without what was taken back of either",
            "points_redeemed": "points that redemptions took, without those that were returned",
        },
        """
        SELECT size, start, closed, orders, net, points_earned, points_reversed, customers, guest_orders, guest_net,
            points_awarded, points_redeemed
        FROM staged_windows
        """,
        derived={
            "starts_local": local("starts_at"),
            "net": money("net_minor", 19),
            "guest_net": money("guest_net_minor", 19),
        },
    ),
    Table(
        "segments_by_day",
        "How many customers stood in each segment at the end of a day of the shop, as it was shown then (rfm_changes).",
        {
            "day": f"the day {LOCAL}",
            "segment": "the segment's name; a day on which it had nobody is left out",
            "customers": "customers in it; who is somebody else now counts until their last change",
        },
        """
        WITH theirs AS (
            SELECT h.changed_at, h.segment, h.until, c.merged_into IS NOT NULL AS merged
            FROM rfm_changes AS h LEFT JOIN customers AS c USING (customer_id)
        ), days AS (
            SELECT local(changed_at)::DATE AS day, segment, sum(step) AS customers
            FROM (
                SELECT changed_at, segment, 1 AS step FROM theirs WHERE until IS NOT NULL OR NOT merged
                UNION ALL SELECT until, segment, -1 FROM theirs WHERE until IS NOT NULL
            ) GROUP BY ALL
        ), calendar AS (
            SELECT unnest(generate_series(min(day), greatest(max(day), local({made_at})::DATE), INTERVAL 1 DAY))::DATE
                AS day
            FROM days
        ), sums AS (
            SELECT day, segment, sum(customers) OVER (PARTITION BY segment ORDER BY day) AS customers
            FROM calendar CROSS JOIN (SELECT DISTINCT segment FROM days) LEFT JOIN days USING (day, segment)
        )
        SELECT day, segment, customers::BIGINT FROM sums WHERE customers > 0 ORDER BY day, segment
        """,
    ),
    Table(
        "rfm_by_month",
        "Where everybody stood at the beginning of each of the last 13 months, worked out from the orders as of then:"
        " as a batch would have then, also where none ran.",
        {
            "month": f"the month that began, its first day {LOCAL}",
            "as_of": f"its first instant, {UTC}",
            "customer_id": f"as of then, before later merges: {CUSTOMER}",
            **_DIGITS,
            "recency_days": "whole days since their latest order then; null: a Prospect",
            "frequency": "orders in the look-back then that counted and were worth more than 0",
            "monetary": f"their net in sum, {MONEY}",
            "monetary_minor": f"monetary {MINOR}",
            "points_balance": "points that they had then",
        },
        """
        SELECT local(make_timestamptz(as_of))::DATE, make_timestamptz(as_of), shown(customer_id), segment,
               r::TINYINT, f::TINYINT, m::TINYINT, recency_days::INTEGER, frequency::INTEGER, monetary, balance
        FROM staged_months
        """,
        derived={**_OF_DIGITS, "monetary": money("monetary_minor", 19)},
    ),
    Table(
        "movement",
        "How many customers came from one segment into another, or stayed, in the course of each month (rfm_by_month).",
        {
            "month": f"the month, its first day {LOCAL}; the last one ends with about.made_at",
            "previous_segment": "where they stood when it began; null: not known yet",
            "segment": "where they stood when the next one began, or stand now; null: not known any more, or merged",
            "customers": "customers",
            "monetary": f"their monetary in sum when it ended, {MONEY}",
        },
        """
        WITH moments AS (
            SELECT month, customer_id, segment, monetary_minor FROM rfm_by_month
            UNION ALL
            SELECT (date_trunc('month', local({made_at})) + INTERVAL 1 MONTH)::DATE, customer_id, segment,
                   monetary_minor
            FROM customers WHERE merged_into IS NULL
        ), bounds AS (
            SELECT min(month) AS first, max(month) AS last FROM moments
        )
        SELECT coalesce(b.month, e.month - INTERVAL 1 MONTH)::DATE AS month, b.segment, e.segment, count(*),
               total(coalesce(sum(e.monetary_minor), 0)::BIGINT)
        FROM (SELECT * FROM moments WHERE month < (SELECT last FROM bounds)) AS b
        FULL JOIN (SELECT * FROM moments WHERE month > (SELECT first FROM bounds)) AS e
            ON e.customer_id = b.customer_id AND e.month = b.month + INTERVAL 1 MONTH
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """,
    ),
    Table(
        "cohorts",
        "Customers by the month of their first order, and what they bought in each month since; orders worth more than"
        " 0 that count.",
        {
            "cohort": f"the month of their first order, its first day {LOCAL}",
            "months_since": "calendar months since: 0 is that month",
            "size": "customers of the cohort",
            "customers": "of these, who ordered in this month",
            "orders": "their orders in this month",
            "net": f"what these are worth, {MONEY}",
            "net_minor": f"net {MINOR}",
            "repeat_customers": "of the cohort, who had ordered at least twice by the end of this month",
            "repeat_rate": "repeat_customers / size, 0 to 1",
        },
        """
        WITH bought AS (
            SELECT customer_id, date_trunc('month', processed_local)::DATE AS month, nth, net_minor
            FROM orders WHERE nth IS NOT NULL AND processed_at <= {made_at}
        ), theirs AS (
            SELECT customer_id, month AS cohort FROM bought WHERE nth = 1
        ), sizes AS (
            SELECT cohort, count(*) AS size FROM theirs GROUP BY cohort
        ), grid AS (
            SELECT cohort, size, unnest(range(date_diff('month', cohort, local({made_at})::DATE) + 1)) AS since
            FROM sizes
        ), active AS (
            SELECT cohort, date_diff('month', cohort, month) AS since, count(DISTINCT customer_id) AS customers,
                   count(*) AS orders, sum(net_minor)::BIGINT AS net
            FROM bought JOIN theirs USING (customer_id) GROUP BY 1, 2
        ), again AS (
            SELECT cohort, date_diff('month', cohort, month) AS since, count(*) AS customers
            FROM bought JOIN theirs USING (customer_id) WHERE nth = 2 GROUP BY 1, 2
        ), sums AS (
            SELECT g.*, a.customers, a.orders, a.net,
                   coalesce(sum(r.customers) OVER (PARTITION BY cohort ORDER BY since), 0)::BIGINT AS repeated
            FROM grid AS g LEFT JOIN active AS a USING (cohort, since) LEFT JOIN again AS r USING (cohort, since)
        )
        SELECT cohort, since, size, coalesce(customers, 0), coalesce(orders, 0), total(coalesce(net, 0)),
               coalesce(net, 0), repeated, repeated / size
        FROM sums ORDER BY cohort, since
        """,
    ),
    Table(
        "cut_points",
        "The thresholds between digits, as each batch published them; version `default` is not among them.",
        {
            "version": "their name",
            "as_of": f"as of when they were worked out, {UTC}",
            "customers": "customers who were not Prospects then",
            **{f"recency_{k}": f"threshold {k} of recency, in days" for k in (1, 2, 3, 4)},
            **{f"frequency_{k}": f"threshold {k} of frequency, in orders" for k in (1, 2, 3, 4)},
            **{f"monetary_{k}": f"threshold {k} of monetary, {MONEY}" for k in (1, 2, 3, 4)},
        },
        """
        SELECT version, as_of, customers, recency_1, recency_2, recency_3, recency_4, frequency_1, frequency_2,
               frequency_3, frequency_4, total(monetary_1), total(monetary_2), total(monetary_3), total(monetary_4)
        FROM staged_cut_points ORDER BY as_of, version
        """,
    ),
    Table(
        "batch_runs",
        "The batches that are still in the books.",
        {
            "run_id": "the run's id",
            "as_of": f"of which time it worked out everybody, {UTC}",
            "version": "the cut points that it made; null: it failed before",
            "published": "whether they are in use: else the run was a question",
            "status": "running, done or failed",
            "customers": "customers known then",
            "rescored": "customers who were asked to score themselves anew",
            "started_at": f"when it began, {UTC}",
            "finished_at": f"when it ended, {UTC}",
        },
        """
        SELECT id, as_of, version, published, status, customers, rescored, started_at, finished_at
        FROM staged_runs ORDER BY started_at, id
        """,
    ),
    Table(
        "point_rules",
        "The program: points for an order, by the rule in force when it happened.",
        {
            "effective_from": f"from when on, {UTC}; null: since ever",
            "points_per_unit": "points for 1.00 of the currency's major unit, rounded down for each order",
        },
        "SELECT make_timestamptz(effective_from), points_per_unit::DECIMAL(12, 6) FROM staged_rules",
    ),
    Table(
        "net_policies",
        "The program: what an order's net is, by the policy in force when it happened (docs/meaning.md).",
        {
            "effective_from": f"from when on, {UTC}; null: since ever",
            "refunds": "what a refund takes off: goods, goods_and_adjustments or money",
            "taxes": "as_priced: net holds the taxes that prices hold; excluded: it does not",
        },
        "SELECT make_timestamptz(effective_from), refunds, taxes FROM staged_policies",
    ),
    Table(
        "segment_grid",
        "The program: which segment the digits make.",
        {
            "r": "recency's digit",
            "fm": "the mean of the digits of frequency and monetary, halves rounded up",
            "segment": "the segment's name",
            "rank": "the segment's place, 1 best",
        },
        "SELECT r, fm, segment, rank FROM staged_grid",
    ),
    *products.TABLES,
    Table(
        "sales",
        "What customers bought and kept: the lines of the orders that make RFM, gift cards left out.",
        {
            "order_id": "the order's id at Shopify",
            "customer_id": CUSTOMER,
            "segment": "the segment that the customer is in now; null: they were not scored yet",
            "processed_at": f"when the order happened, {UTC}",
            "processed_local": f"the same {LOCAL}",
            "nth": "which of the customer's orders it is, from 1",
            "item": "the product (products.item)",
            "variant_id": "the variant's id at Shopify; null: not told",
            "sku": "the merchant's own number; null: not told",
            "pieces": "pieces that were kept",
            "amount": f"what these are worth, {MONEY}",
        },
        """
        SELECT order_id, o.customer_id, c.segment, processed_at, processed_local, nth, item, variant_id, sku, pieces,
               amount
        FROM order_lines JOIN orders AS o USING (order_id) LEFT JOIN customers AS c ON c.customer_id = o.customer_id
        WHERE nth IS NOT NULL AND item IS NOT NULL AND pieces > 0 AND processed_at <= (SELECT made_at FROM about)
        """,
        kind="VIEW",
    ),
    Table(
        "segments_now",
        "The segments as they are: who is in them, and what they bring.",
        {
            "segment": "the segment's name",
            "customers": "customers in it",
            "share": "of all customers, 0 to 1",
            "monetary": f"their net over the look-back in sum, {MONEY}",
            "points_balance": "points that they have",
            "mean_recency_days": "days since their latest order, on average; null: Prospects",
            "mean_frequency": "orders over the look-back, on average",
        },
        """
        SELECT segment, count(*), count(*) / sum(count(*)) OVER (), sum(monetary), sum(points_balance),
               avg(recency_days), avg(frequency)
        FROM customers WHERE merged_into IS NULL GROUP BY segment
        """,
        kind="VIEW",
    ),
    Table(
        "revenue_by_month",
        "The shop's months: orders worth more than 0 that count.",
        {
            "month": f"the month, its first day {LOCAL}",
            "orders": "orders",
            "customers": "distinct customers",
            "new_customers": "of these, whose first order it was",
            "net": f"what the orders are worth, {MONEY}",
        },
        """
        SELECT date_trunc('month', processed_local)::DATE, count(*), count(DISTINCT customer_id),
               count(*) FILTER (WHERE nth = 1), sum(net)
        FROM orders WHERE nth IS NOT NULL AND processed_at <= (SELECT made_at FROM about) GROUP BY 1
        """,
        kind="VIEW",
    ),
)

BY_NAME: Final = {table.name: table for table in TABLES}
