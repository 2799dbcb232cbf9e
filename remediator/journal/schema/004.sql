-- What a remediation did and has to put back: written before the machine is touched. ``first`` is
-- the oldest attempt that lasted on the target when this one began, which is itself if none did.
CREATE TABLE lasting (
    attempt INTEGER PRIMARY KEY REFERENCES attempt (id),
    first INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'in force',
    tries INTEGER NOT NULL DEFAULT 0,
    next_try_at TEXT NOT NULL,
    ended_at TEXT,
    result TEXT
) STRICT;
CREATE INDEX lasting_in_force ON lasting (attempt) WHERE ended_at IS NULL;
CREATE INDEX lasting_first ON lasting (first);
