-- What a batch measured and how its gates were judged ({measured, shares, gates}), how often it was tried, and how long it took.
ALTER TABLE batch_runs
    ADD COLUMN webhooks bigint,
    ADD COLUMN scored   integer,
    ADD COLUMN differ   integer,
    ADD COLUMN seconds  double precision,
    ADD COLUMN attempt  integer NOT NULL DEFAULT 1,
    ADD COLUMN quality  jsonb;
