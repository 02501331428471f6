-- A key may be of several shops: `shop`, and these.
ALTER TABLE api_keys ADD COLUMN more_shops text[] NOT NULL DEFAULT '{}';

-- Whoever is signed in on the dashboard. It may do what its key may (and ends with it), or what the link said.
CREATE TABLE dashboard_sessions (
    id           text PRIMARY KEY,           -- the part of the cookie that is not secret
    hash         bytea NOT NULL,             -- SHA-256 of the secret part: 256 random bits need no slow hash
    shops        text[] NOT NULL,
    scopes       text[] NOT NULL,
    key_id       text,                       -- the API key it was opened with
    way          text NOT NULL,              -- key, link or shopify
    created_at   timestamptz NOT NULL,
    seen_at      timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);
CREATE INDEX dashboard_sessions_by_shop ON dashboard_sessions USING gin (shops);

-- Links that sign in once.
CREATE TABLE sign_in_links (
    hash       bytea PRIMARY KEY,            -- SHA-256 of the token
    shops      text[] NOT NULL,
    scopes     text[] NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
