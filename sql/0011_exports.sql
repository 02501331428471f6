-- Every export: who asked, what, and what came of it; those that are made aside are claimed here, and begin again after a
-- crash. No row of a file is kept here.
CREATE TABLE exports (
    id          uuid PRIMARY KEY,
    shop        text NOT NULL,
    asked_by    text NOT NULL,               -- the id of an API key or a session; 'shell': of nobody's key
    way         text NOT NULL CHECK (way IN ('stream', 'job', 'shell')),
    asked_at    timestamptz NOT NULL,
    question    jsonb NOT NULL,
    scopes      text[] NOT NULL,             -- what the file takes to be seen: export, and pii where it shows addresses
    status      text NOT NULL CHECK (status IN ('waiting', 'running', 'done', 'failed', 'broken off')),
    detail      text,                        -- why it failed, or why its file is gone
    attempt     integer NOT NULL DEFAULT 0,
    customers   bigint,                      -- to go through; null until they are counted
    done        bigint NOT NULL DEFAULT 0,   -- of them gone through
    rows        bigint NOT NULL DEFAULT 0,   -- in the file
    bytes       bigint NOT NULL DEFAULT 0,
    started_at  timestamptz,
    finished_at timestamptz,
    kept_until  timestamptz                  -- its file is in the data folder of an API until then; null where none is
);
CREATE INDEX exports_by_shop ON exports (shop, asked_at DESC, id);
CREATE INDEX exports_open ON exports (asked_at) WHERE status IN ('waiting', 'running');
CREATE INDEX exports_kept ON exports (kept_until) WHERE kept_until IS NOT NULL;

-- Whose segment changed since some instant.
CREATE INDEX rfm_segment_deltas_by_time ON rfm_segment_deltas (shop, at);
