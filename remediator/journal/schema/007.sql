-- Who keeps which run of which container from the idle stop, and until when: the newest row of a
-- run is what holds, also where it ends an older one.
CREATE TABLE extension (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    container TEXT NOT NULL,
    started_at TEXT NOT NULL,
    name TEXT NOT NULL,
    until TEXT NOT NULL,
    actor TEXT NOT NULL,
    via TEXT NOT NULL,
    reason TEXT NOT NULL,
    given_at TEXT NOT NULL
) STRICT;
CREATE INDEX extension_of_run ON extension (container, started_at, id);
CREATE INDEX extension_until ON extension (until);
