-- What of a customer's points can be spent is their balance; beside it what cannot be yet, what was ever earned, taken, and
-- has run out, and what runs out next. Rows from before have nothing of it; a rebuild fills them.
ALTER TABLE customers
    ADD COLUMN pending    bigint NOT NULL DEFAULT 0,
    ADD COLUMN earned     bigint NOT NULL DEFAULT 0,
    ADD COLUMN spent      bigint NOT NULL DEFAULT 0,
    ADD COLUMN expired    bigint NOT NULL DEFAULT 0,
    ADD COLUMN expiring   bigint NOT NULL DEFAULT 0,
    ADD COLUMN expires_at timestamptz;
