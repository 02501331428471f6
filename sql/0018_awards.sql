-- Points that somebody gave or took: what stands of each award, as the stream joins it. Its texts compare by code point.
CREATE TABLE awards (
    shop             text NOT NULL,
    customer_id      text NOT NULL,
    award_id         text COLLATE "C" NOT NULL,
    at               timestamptz NOT NULL,
    points           bigint NOT NULL,                -- below 0: taken
    reason           text COLLATE "C" NOT NULL,      -- '': none was told
    source           text COLLATE "C" NOT NULL,
    counts_as_earned boolean NOT NULL,
    voided_at        timestamptz,                    -- when it was taken back
    stored_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shop, customer_id, award_id)
);
CREATE INDEX awards_by_time ON awards (shop, customer_id, at, award_id);

-- What the API and the commands have asked for and the sink may not have stored yet: what another request by the same name is
-- held against, on every process. Gone once it is stored.
CREATE TABLE award_claims (
    shop             text NOT NULL,
    customer_id      text NOT NULL,
    award_id         text NOT NULL,
    at               timestamptz NOT NULL,
    points           bigint NOT NULL,
    reason           text NOT NULL,
    source           text NOT NULL,
    counts_as_earned boolean NOT NULL,
    claimed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shop, customer_id, award_id)
);
CREATE INDEX award_claims_by_time ON award_claims (claimed_at);
