-- What the network side was told. A body is stored whole and taken apart by the worker.
-- AUTOINCREMENT: an id is never used again, since the journal remembers the last one it took.
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at TEXT NOT NULL,
    sender TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- Tells this inbox from one that was made anew in its place: its numbers begin again.
CREATE TABLE identity (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL
) STRICT;
INSERT INTO identity (id, name) VALUES (1, lower(hex(randomblob(16))));
