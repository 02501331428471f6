-- Redemptions whose time is over, looked for by reward; and all whose discount is to be withdrawn, those that nobody used in time too.
CREATE INDEX redemptions_ending ON redemptions (shop, reward_id, valid_until) WHERE status = 'issued';
DROP INDEX redemptions_cancelled;
CREATE INDEX redemptions_withdrawn ON redemptions (shop, customer_id, request_id) WHERE returned_reason IN ('cancelled', 'unused');
