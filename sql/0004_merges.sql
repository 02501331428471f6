-- Customers who are one: a merged customer's row stays, and says whom all that was theirs went to. It counts nowhere.
ALTER TABLE customers ADD COLUMN merged_into text;

-- The API's lists leave such rows out, so their indexes do.
DROP INDEX customers_by_segment;
DROP INDEX customers_by_recency;
DROP INDEX customers_by_frequency;
DROP INDEX customers_by_monetary;
DROP INDEX customers_by_balance;
DROP INDEX customers_by_score;
CREATE INDEX customers_by_segment ON customers (shop, segment, customer_id) WHERE merged_into IS NULL;
CREATE INDEX customers_by_recency ON customers (shop, (coalesce(recency_days, 2147483647)), customer_id)
    WHERE merged_into IS NULL;
CREATE INDEX customers_by_frequency ON customers (shop, frequency, customer_id) WHERE merged_into IS NULL;
CREATE INDEX customers_by_monetary ON customers (shop, monetary, customer_id) WHERE merged_into IS NULL;
CREATE INDEX customers_by_balance ON customers (shop, balance, customer_id) WHERE merged_into IS NULL;
CREATE INDEX customers_by_score ON customers (shop, ((coalesce(score, 0) * 10)::int), customer_id)
    WHERE merged_into IS NULL;
CREATE INDEX customers_merged ON customers (shop, merged_into) WHERE merged_into IS NOT NULL;

-- What came by way of somebody who was merged is a posting of its own; '' is the customer's own.
ALTER TABLE points_totals ADD COLUMN via text NOT NULL DEFAULT '';
ALTER TABLE points_totals DROP CONSTRAINT points_totals_pkey;
ALTER TABLE points_totals ADD PRIMARY KEY (shop, source, source_id, customer_id, via);
ALTER TABLE points_transactions ADD COLUMN via text NOT NULL DEFAULT '';
