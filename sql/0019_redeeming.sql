-- What was asked for and is not decided, as far as the sink has stored it: what another request by the same name is held against, on
-- every process, and what the request is published from. Gone once its decision is stored.
CREATE TABLE redemption_claims (
    shop        text NOT NULL,
    customer_id text NOT NULL,
    request_id  text NOT NULL,
    reward_id   text NOT NULL,
    cost        bigint NOT NULL,
    program_at  timestamptz,                        -- when the program was announced that the cost is of
    forced_at   timestamptz,                        -- when it was given already; null: it is to be decided
    claimed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shop, customer_id, request_id)
);
CREATE INDEX redemption_claims_by_time ON redemption_claims (claimed_at);

-- A shop's redemptions, newest first: all, and those of a status.
CREATE INDEX redemptions_by_time ON redemptions (shop, decided_at, customer_id, request_id);
CREATE INDEX redemptions_by_status ON redemptions (shop, status, decided_at, customer_id, request_id);
