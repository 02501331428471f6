-- A customer's consent, sealed apart from their address: each may come from another message.
ALTER TABLE customers ADD COLUMN consent text;
