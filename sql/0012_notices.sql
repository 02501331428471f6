-- Where a shop's integrators want to be told of what happens, and what is to be told or was. No row of these is derived: a
-- rebuild leaves them, and so knows what was told.
CREATE TABLE notice_endpoints (
    id          uuid PRIMARY KEY,
    shop        text NOT NULL,
    url         text NOT NULL,
    events      text[] NOT NULL,
    created_at  timestamptz NOT NULL,          -- what happened before is not told
    failures    integer NOT NULL DEFAULT 0,    -- in a row
    rests_until timestamptz,                   -- after too many of them
    worked_at   timestamptz,                   -- when somebody last began to send there
    held_by     uuid,                          -- who sends there now, and until when they may
    held_until  timestamptz
);
CREATE INDEX notice_endpoints_by_shop ON notice_endpoints (shop, created_at);

-- One message to one endpoint. Without a foreign key: the sink, who writes them, must not be refused a row because
-- somebody removes an endpoint; what is left behind is tidied away.
CREATE TABLE notices (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint    uuid NOT NULL,
    shop        text NOT NULL,
    customer_id text,
    message     uuid NOT NULL,                 -- the id of the row that it tells of: the same after any replay
    event       text NOT NULL,
    body        text NOT NULL,                 -- as it is sent, byte for byte
    status      text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'done', 'dead')),
    attempts    integer NOT NULL DEFAULT 0,
    code        integer,                       -- of the last answer
    error       text,                          -- what was wrong with the last attempt
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    since       timestamptz NOT NULL DEFAULT clock_timestamp(),  -- tried for three days from here
    due_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    UNIQUE (endpoint, message)
);
CREATE INDEX notices_waiting ON notices (endpoint, id) WHERE status = 'waiting';
CREATE INDEX notices_by_status ON notices (endpoint, status, id);

-- Up to when a customer's changes of segment were known when a rebuild emptied them: what it makes anew of until then is no
-- news, be its steps others.
CREATE TABLE notice_marks (
    shop        text NOT NULL,
    customer_id text NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (shop, customer_id)
);
