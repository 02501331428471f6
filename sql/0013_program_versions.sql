-- What a shop's program was from each announcement on, as the sink joined it first. `tag` is of what was announced.
CREATE TABLE program_versions (
    shop         text NOT NULL,
    announced_at timestamptz NOT NULL,
    tag          text NOT NULL,
    program      jsonb NOT NULL,
    PRIMARY KEY (shop, announced_at, tag)
);
