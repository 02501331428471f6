-- The points of each customer that ran out on a day of the shop's zone, as last told: restated when something is known later, also
-- to 0. Up to a customer's `now` their ledger's entries less these sum to balance + pending.
CREATE TABLE points_expired (
    shop        text NOT NULL,
    customer_id text NOT NULL,
    day         date NOT NULL,
    zone        text NOT NULL,                  -- whose day it is: the shop's when it was told
    at          timestamptz NOT NULL,           -- when that day begins
    points      bigint NOT NULL CHECK (points >= 0),
    fence       bigint NOT NULL,                -- as in customers
    PRIMARY KEY (shop, customer_id, day)
);
CREATE INDEX points_expired_by_time ON points_expired (shop, customer_id, at, day) WHERE points > 0;
