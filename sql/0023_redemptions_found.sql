-- A redemption is found by its name and by its code, in whatever case it is written; and those of a reward are listed.
CREATE INDEX redemptions_by_name ON redemptions (shop, request_id);
CREATE INDEX redemptions_by_code ON redemptions (shop, upper(code)) WHERE code IS NOT NULL;
CREATE INDEX redemptions_by_reward ON redemptions (shop, reward_id, decided_at, customer_id, request_id);
