-- What a shop was told since some commit: without this a reader of one shop goes through every other's.
DROP INDEX raw_events_by_shop;
CREATE INDEX raw_events_by_shop ON raw_events (shop, stream, xid, id);

-- How large a shop's segments were as each run worked them out; it stays when the run's standings go.
CREATE TABLE segment_sizes (
    shop       text NOT NULL,
    as_of      timestamptz NOT NULL,
    run_id     uuid NOT NULL,
    segment    text NOT NULL,
    customers  integer NOT NULL,
    monetary   bigint NOT NULL,
    balance    bigint NOT NULL,
    noted_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop, as_of, run_id, segment)
);
