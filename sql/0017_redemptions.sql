-- What customers asked to redeem, how it was decided, and what became of it: derived, a row for each request. `points`: what it
-- takes from the account now, -cost or 0.
CREATE TABLE redemptions (
    shop            text NOT NULL,
    request_id      text NOT NULL,
    customer_id     text NOT NULL,
    reward_id       text NOT NULL,
    cost            bigint NOT NULL,
    decided_at      timestamptz NOT NULL,
    seq             bigint NOT NULL,
    accepted        boolean NOT NULL,
    reason          text,                          -- why it was refused
    balance         bigint NOT NULL,               -- spendable before it
    forced          boolean NOT NULL,
    requested_at    timestamptz NOT NULL,
    status          text NOT NULL CHECK (status IN ('refused', 'reserved', 'issued', 'used', 'returned')),
    points          bigint NOT NULL,
    attempt         integer,
    code            text,
    valid_until     timestamptz,
    returned_reason text,
    revision        text COLLATE "C" NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shop, customer_id, request_id)
);
CREATE INDEX redemptions_by_customer ON redemptions (shop, customer_id, decided_at);
CREATE INDEX redemptions_reserved ON redemptions (shop, customer_id, request_id) WHERE status = 'reserved';
CREATE INDEX redemptions_cancelled ON redemptions (shop, customer_id, request_id) WHERE returned_reason = 'cancelled';

-- The stores in which discounts are made, and how their Admin API is reached. The token is sealed with a key of the shop's.
CREATE TABLE fulfilment_shops (
    shop          text PRIMARY KEY,
    endpoint      text NOT NULL,
    token         text,                            -- null: off
    enabled       boolean NOT NULL,
    set_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    rests_until   timestamptz,
    rests_why     text,                            -- failures, throttled, refused (the token or the store), token (unreadable)
    failures      integer NOT NULL DEFAULT 0,      -- in a row
    failing_since timestamptz,
    last_error    text
);

-- How far the making of each discount is. No row of these is derived: a rebuild leaves them, and so knows what was told.
CREATE TABLE fulfilment_work (
    shop          text NOT NULL,
    customer_id   text NOT NULL,
    request_id    text NOT NULL,           -- unique for a customer
    attempts      integer NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    failing_since timestamptz,                     -- the first of its failures that counts
    held_by       uuid,                            -- who works on it, and until when they may
    held_until    timestamptz,
    last_error    text,
    outcome       text CHECK (outcome IN ('issued', 'failed')),
    reason        text,                            -- why it failed
    code          text,
    valid_until   timestamptz,
    finished_at   timestamptz,                     -- its outcome has been told, or its discount withdrawn
    withdrawal    text CHECK (withdrawal IN ('due', 'done', 'failed')), -- of the discount of a redemption that was cancelled
    PRIMARY KEY (shop, customer_id, request_id)
);
CREATE INDEX fulfilment_work_waiting ON fulfilment_work (shop, due_at) WHERE finished_at IS NULL;
