-- Redemptions whose time is over, looked for by reward; and all whose discount is to be withdrawn, those that nobody used in time too.
CREATE INDEX redemptions_ending ON redemptions (shop, reward_id, valid_until) WHERE status = 'issued';
DROP INDEX redemptions_cancelled;
CREATE INDEX redemptions_withdrawn ON redemptions (shop, customer_id, request_id) WHERE returned_reason IN ('cancelled', 'unused');

-- Deductions that were asked for are decided as redemptions are: without a reward, by a name behind `checked/`.
ALTER TABLE redemptions ALTER reward_id DROP NOT NULL, ADD purpose text, ADD source text,
    DROP CONSTRAINT redemptions_status_check,
    ADD CONSTRAINT redemptions_status_check CHECK (status IN ('refused', 'reserved', 'issued', 'used', 'returned', 'taken'));
ALTER TABLE award_claims ADD checked boolean NOT NULL DEFAULT false;
