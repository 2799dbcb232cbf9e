-- A notice as HTML, and its reason and way out in a line each, for a digest. For ``patience`` seconds
-- it may wait for others of its kind; ``digest`` is the lowest of those that are told as one.
ALTER TABLE notice ADD COLUMN html TEXT NOT NULL DEFAULT '';
ALTER TABLE notice ADD COLUMN why TEXT NOT NULL DEFAULT '';
ALTER TABLE notice ADD COLUMN advice TEXT NOT NULL DEFAULT '';
ALTER TABLE notice ADD COLUMN patience REAL NOT NULL DEFAULT 0;
ALTER TABLE notice ADD COLUMN digest INTEGER;
CREATE INDEX notice_recent ON notice (recipient, notifier, created_at);
CREATE INDEX notice_digest ON notice (digest) WHERE digest IS NOT NULL;
