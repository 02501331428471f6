-- Files of a store's past that were brought in, or are being: what they held, and how far that is durable.
CREATE TABLE imports (
    id          uuid PRIMARY KEY,
    shop        text NOT NULL,
    file        text NOT NULL,               -- its name, without a folder
    sha256      text NOT NULL,               -- of its content: the same content is brought in once
    bytes       bigint NOT NULL,
    format      text,                        -- null until it has been recognised
    status      text NOT NULL CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    detail      text,                        -- why it failed
    lines       bigint NOT NULL DEFAULT 0,   -- the file's
    line        bigint NOT NULL DEFAULT 0,   -- the last one that is durable
    from_line   bigint NOT NULL DEFAULT 0,   -- the last one that was, when it was started or started again
    position    bigint NOT NULL DEFAULT 0,   -- orders, customers and rejected lines that are: where to go on
    orders      bigint NOT NULL DEFAULT 0,
    customers   bigint NOT NULL DEFAULT 0,
    rejected    bigint NOT NULL DEFAULT 0,
    problems    jsonb NOT NULL DEFAULT '[]', -- the first rejected lines: [line, reason], nothing of what stood there
    notes       jsonb NOT NULL DEFAULT '{}', -- what was noticed beside, by kind: how often
    first_at    timestamptz NOT NULL,        -- when this content was first asked for: its envelopes' received_at
    started_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    finished_at timestamptz,
    batch_due   boolean NOT NULL DEFAULT false -- the schedule is to run the shop's batch once
);
CREATE INDEX imports_by_shop ON imports (shop, started_at DESC);
CREATE INDEX imports_by_content ON imports (shop, sha256);
CREATE INDEX imports_due ON imports (shop) WHERE batch_due;
