-- What was stopped for a while, and must run again. A row is written before anything is touched,
-- and a member is outstanding until it was seen running: the record outlives every crash.
CREATE TABLE quiesce (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    began_at TEXT NOT NULL,
    why TEXT NOT NULL
) STRICT;

-- Positions are the order of stopping. Whether it ran, and how it is to be started again.
CREATE TABLE member (
    quiesce INTEGER NOT NULL REFERENCES quiesce (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    identity TEXT NOT NULL,
    was TEXT NOT NULL,
    ran INTEGER NOT NULL,
    must_stop INTEGER NOT NULL,
    steady INTEGER NOT NULL,
    alone INTEGER NOT NULL,
    stopping_at TEXT,
    stopped_at TEXT,
    restored_at TEXT,
    trouble TEXT NOT NULL DEFAULT '',
    outstanding INTEGER NOT NULL
        GENERATED ALWAYS AS (ran = 1 AND restored_at IS NULL) STORED,
    PRIMARY KEY (quiesce, position)
) STRICT;
CREATE INDEX member_outstanding ON member (quiesce) WHERE outstanding = 1;
