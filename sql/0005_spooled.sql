-- Since when an import's file waits, in clear, in the data folder of an API; null where none does. A redaction clears it,
-- and whoever has the file removes it then.
ALTER TABLE imports ADD COLUMN spooled_at timestamptz;
UPDATE imports SET spooled_at = first_at WHERE status <> 'done';
CREATE INDEX imports_spooled ON imports (shop) WHERE spooled_at IS NOT NULL;
