-- How far worker and sink are behind, of all shops, as a sink measured it last: one row. `waiting`: webhooks in the raw
-- history that the embedded broker has not been given; null where webhooks go to Kafka itself.
CREATE TABLE stream_lag (
    singular       boolean PRIMARY KEY DEFAULT true CHECK (singular),
    noted_at       timestamptz NOT NULL,
    waiting        bigint,
    worker         bigint NOT NULL,
    worker_read_to timestamptz,
    sink           bigint NOT NULL,
    sink_read_to   timestamptz
);
