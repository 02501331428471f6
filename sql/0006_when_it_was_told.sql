-- When what is sealed of a customer was told: of several customers who are one person the newest stands. Null: unknown.
ALTER TABLE customers ADD COLUMN contact_at timestamptz;     -- without a contact: when it was taken away
ALTER TABLE customers ADD COLUMN consent_at timestamptz;
ALTER TABLE customers ADD COLUMN consent_by_order boolean;    -- it is what the buyer of an order agreed to
