-- The history, the results and the books. Plain PostgreSQL; where TimescaleDB is present, `loyalnest migrate` makes
-- hypertables of the tables that grow with time (that is why their keys contain the time column).
-- Amounts are integer minor units of the shop's currency. Revisions compare by code point: COLLATE "C".

-- Everything that came in, as it stood on its topic: webhooks, programs, cut points, rescores. A rebuild reads this
-- and nothing else. Embedded, it is also the journal the broker is fed from: (xid, id) is the order of commits.
CREATE TABLE raw_events (
    id           bigint GENERATED ALWAYS AS IDENTITY,
    received_at  timestamptz NOT NULL,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    stream       text NOT NULL,              -- the Kafka topic, without the prefix
    key          text NOT NULL,
    shop         text NOT NULL,
    webhook_topic text,                      -- orders/paid, ...; null for our own records
    webhook_id   text,
    triggered_at timestamptz NOT NULL,       -- received_at for our own records
    value        text NOT NULL,              -- the message, byte for byte
    PRIMARY KEY (id, received_at)
);
CREATE INDEX raw_events_by_order ON raw_events (xid, id);
CREATE INDEX raw_events_by_shop ON raw_events (shop, stream, id);

-- What the announcements on loyalnest.programs come to, as the stream joins them: the sink's alone.
CREATE TABLE programs (
    shop        text PRIMARY KEY,
    program     jsonb NOT NULL,
    updated_at  timestamptz NOT NULL,
    judged_to   timestamptz NOT NULL DEFAULT 'epoch'  -- the greatest announced_at that the sink has judged
);

-- What the API and the commands have announced and the sink may not have judged yet (announced_at > judged_to):
-- joined to the stored program it is what a GET shows and the next PUT is held against, on every process.
CREATE TABLE announcements (
    shop         text NOT NULL,
    announced_at timestamptz NOT NULL,
    program      jsonb NOT NULL,
    PRIMARY KEY (shop, announced_at)
);

CREATE TABLE cut_points (
    shop        text NOT NULL,
    version     text NOT NULL,
    as_of       timestamptz NOT NULL,
    customers   integer NOT NULL,
    recency     bigint[] NOT NULL,
    frequency   bigint[] NOT NULL,
    monetary    bigint[] NOT NULL,
    PRIMARY KEY (shop, as_of, version)
);

CREATE TABLE customers (
    shop          text NOT NULL,
    customer_id   text NOT NULL,
    now           timestamptz NOT NULL,
    currency      text NOT NULL,
    balance       bigint NOT NULL,
    recency_days  integer,
    frequency     integer NOT NULL,
    monetary      bigint NOT NULL,
    last_order_at timestamptz,
    r             smallint,
    f             smallint,
    m             smallint,
    score         numeric(2, 1),
    segment_id    text NOT NULL,
    segment       text NOT NULL,
    cut_points_version text NOT NULL,
    contact       text,                      -- sealed with the customer's own key
    deleted       boolean NOT NULL,
    redacted      boolean NOT NULL,
    fence         bigint NOT NULL DEFAULT 0, -- the fencing token of the worker whose row it is: a lower one is stale
    stored_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shop, customer_id)
);
CREATE INDEX customers_by_segment ON customers (shop, segment, customer_id);
-- One for each sort of the API's list, as it is written there, so that a page reads its own rows and no others.
CREATE INDEX customers_by_recency ON customers (shop, (coalesce(recency_days, 2147483647)), customer_id);
CREATE INDEX customers_by_frequency ON customers (shop, frequency, customer_id);
CREATE INDEX customers_by_monetary ON customers (shop, monetary, customer_id);
CREATE INDEX customers_by_balance ON customers (shop, balance, customer_id);
CREATE INDEX customers_by_score ON customers (shop, ((coalesce(score, 0) * 10)::int), customer_id);

-- What the customers of a segment sum to, kept by difference: nobody counts a million rows to show ten.
CREATE TABLE rfm_segment_counts (
    shop         text NOT NULL,
    segment      text NOT NULL,
    customers    bigint NOT NULL,
    monetary     numeric NOT NULL,           -- whose parts may each fill 64 bits, as those of the next
    balance      numeric NOT NULL DEFAULT 0,
    frequency    bigint NOT NULL DEFAULT 0,
    recency_days bigint NOT NULL DEFAULT 0,  -- of those who have one: `recent` customers
    recent       bigint NOT NULL DEFAULT 0,
    stored_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shop, segment)
);

-- What a source has posted in all to one customer: the sink derives the ledger's deltas from it. Sources are orders so
-- far ('order', its id); awards and redemptions have room.
CREATE TABLE points_totals (
    shop         text NOT NULL,
    source       text NOT NULL,
    source_id    text NOT NULL,
    customer_id  text NOT NULL,
    revision     text COLLATE "C" NOT NULL,
    total        bigint NOT NULL,
    processed_at timestamptz NOT NULL,
    PRIMARY KEY (shop, source, source_id, customer_id)
);

CREATE TABLE points_transactions (
    posted_at    timestamptz NOT NULL,       -- changed_at of the revision that caused the entry
    id           uuid NOT NULL,              -- uuid5 of shop, source, its id, customer, kind, revision
    shop         text NOT NULL,
    customer_id  text NOT NULL,
    source       text NOT NULL,
    source_id    text NOT NULL,
    kind         text NOT NULL,              -- earned or reversed
    points       bigint NOT NULL,            -- above 0 earned, below 0 reversed
    revision     text COLLATE "C" NOT NULL,
    processed_at timestamptz NOT NULL,
    PRIMARY KEY (shop, id, posted_at)
);
CREATE INDEX points_transactions_by_customer ON points_transactions (shop, customer_id, posted_at, id);

CREATE TABLE rfm_score_history (
    at           timestamptz NOT NULL,
    id           uuid NOT NULL,
    shop         text NOT NULL,
    customer_id  text NOT NULL,
    recency_days integer,
    frequency    integer NOT NULL,
    monetary     bigint NOT NULL,
    r            smallint,
    f            smallint,
    m            smallint,
    score        numeric(2, 1),
    segment_id   text NOT NULL,
    segment      text NOT NULL,
    cut_points_version text NOT NULL,
    cause        text NOT NULL,
    PRIMARY KEY (shop, id, at)
);
CREATE INDEX rfm_score_history_by_customer ON rfm_score_history (shop, customer_id, at, id);

CREATE TABLE rfm_segment_deltas (
    at               timestamptz NOT NULL,
    id               uuid NOT NULL,
    shop             text NOT NULL,
    customer_id      text NOT NULL,
    previous_segment text,
    segment          text NOT NULL,
    cause            text NOT NULL,
    PRIMARY KEY (shop, id, at)
);

CREATE TABLE points_windows (
    start           timestamptz NOT NULL,
    shop            text NOT NULL,
    size            text NOT NULL CHECK (size IN ('minute', 'hour', 'day')),
    zone            text NOT NULL,           -- whose day it is; UTC for minutes and hours
    partition       integer NOT NULL,        -- -1: closed, rebuilt by the batch; it replaces the partial rows
    currency        text NOT NULL,
    orders          bigint NOT NULL,
    net             bigint NOT NULL,
    points_earned   bigint NOT NULL,
    points_reversed bigint NOT NULL,
    customers       bigint NOT NULL,
    guest_orders    bigint NOT NULL,
    guest_net       bigint NOT NULL,
    fence           bigint NOT NULL DEFAULT 0, -- as in customers
    PRIMARY KEY (shop, size, zone, start, partition)
);
CREATE INDEX points_windows_closed ON points_windows (shop) WHERE partition = -1;

-- Windows that an order changed after the stream had let go of them; the batch rebuilds and removes them.
CREATE TABLE late_windows (
    shop      text NOT NULL,
    size      text NOT NULL,
    zone      text NOT NULL,
    start     timestamptz NOT NULL,
    noted_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shop, size, zone, start)
);

-- A shop's windows as everybody is to read them: open ones are the sum of the partitions' rows, a closed one is its one
-- row, and days are those of the zone in force. (A shop that changed its zone has older days of another one beside.)
CREATE VIEW shop_windows AS
SELECT shop, size, w.zone, start,
    (CASE min(partition) WHEN -1 THEN sum(orders) FILTER (WHERE partition = -1)
        ELSE sum(orders) END)::bigint AS orders,
    (CASE min(partition) WHEN -1 THEN sum(net) FILTER (WHERE partition = -1)
        ELSE sum(net) END)::bigint AS net,
    (CASE min(partition) WHEN -1 THEN sum(points_earned) FILTER (WHERE partition = -1)
        ELSE sum(points_earned) END)::bigint AS points_earned,
    (CASE min(partition) WHEN -1 THEN sum(points_reversed) FILTER (WHERE partition = -1)
        ELSE sum(points_reversed) END)::bigint AS points_reversed,
    (CASE min(partition) WHEN -1 THEN sum(customers) FILTER (WHERE partition = -1)
        ELSE sum(customers) END)::bigint AS customers,
    (CASE min(partition) WHEN -1 THEN sum(guest_orders) FILTER (WHERE partition = -1)
        ELSE sum(guest_orders) END)::bigint AS guest_orders,
    (CASE min(partition) WHEN -1 THEN sum(guest_net) FILTER (WHERE partition = -1)
        ELSE sum(guest_net) END)::bigint AS guest_net
FROM points_windows w JOIN programs p USING (shop)
WHERE w.zone = CASE size WHEN 'day' THEN p.program ->> 'zone' ELSE 'UTC' END
GROUP BY shop, size, w.zone, start;

-- Windows that the batch has closed: the stream's rows of them count no more.
CREATE VIEW closed_windows AS
SELECT shop, size, zone, start FROM points_windows WHERE partition = -1;

-- What waits for the batch: windows noted, and closed ones beside which a row of the stream's stands. (A sink that wrote
-- it before the batch closed the window, and committed after, could not know.)
CREATE VIEW windows_to_rebuild AS
SELECT shop, size, zone, start FROM late_windows
UNION
SELECT shop, size, zone, start FROM points_windows JOIN closed_windows USING (shop, size, zone, start)
WHERE partition >= 0;

CREATE TABLE batch_runs (
    id          uuid PRIMARY KEY,
    shop        text NOT NULL,
    as_of       timestamptz NOT NULL,
    version     text,
    published   boolean NOT NULL DEFAULT false,
    status      text NOT NULL CHECK (status IN ('running', 'done', 'failed')),
    customers   integer,
    rescored    integer,
    rounds      integer,
    detail      text,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE INDEX batch_runs_by_shop ON batch_runs (shop, as_of DESC, started_at DESC);

-- Everyone's standing as one run worked it out: what is asked when somebody asks for a past day.
CREATE TABLE batch_segments (
    run_id        uuid NOT NULL REFERENCES batch_runs ON DELETE CASCADE,
    shop          text NOT NULL,
    customer_id   text NOT NULL,
    balance       bigint NOT NULL,
    recency_days  integer,
    frequency     integer NOT NULL,
    monetary      bigint NOT NULL,
    last_order_at timestamptz,
    r             smallint,
    f             smallint,
    m             smallint,
    score         numeric(2, 1),
    segment_id    text NOT NULL,
    segment       text NOT NULL,
    PRIMARY KEY (run_id, customer_id)
);

CREATE TABLE dead_letters (
    at          timestamptz NOT NULL,
    id          uuid NOT NULL,
    shop        text,
    source      text NOT NULL,
    partition   integer,
    "offset"    bigint,
    key         text,
    error       text NOT NULL,
    detail      text NOT NULL,
    value       text,
    sealed      text,
    replayed_at timestamptz,
    PRIMARY KEY (id, at)
);
CREATE INDEX dead_letters_by_shop ON dead_letters (shop, at, id);

CREATE TABLE api_keys (
    id         text PRIMARY KEY,             -- the part of the key that is not secret
    shop       text NOT NULL,
    name       text NOT NULL,
    hash       bytea NOT NULL,               -- SHA-256 of the secret part: 256 random bits need no slow hash
    scopes     text[] NOT NULL,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);

-- A customer's own key, wrapped by the master key. Destroyed (wrapped null) when the customer is redacted: whatever
-- was sealed with it, anywhere, can no longer be read, and no new key is ever made for them.
-- customer_id 'dead-letters' is the shop's key for bodies that nobody could parse.
CREATE TABLE customer_keys (
    shop         text NOT NULL,
    customer_id  text NOT NULL,
    wrapped      bytea,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    destroyed_at timestamptz,
    PRIMARY KEY (shop, customer_id)
);

-- How far the sink has read each partition. Embedded, a broker forgets on exit, so positions carry its incarnation.
CREATE TABLE sink_positions (
    incarnation text NOT NULL,
    topic       text NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (incarnation, topic, partition)
);
