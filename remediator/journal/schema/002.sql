-- What keeps an operator in charge: the breaker, questions to be answered, commands and their answers.

-- Over the budget of all destructive attempts it opens, and stays open until a person closes it.
CREATE TABLE breaker (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    opened_at TEXT NOT NULL,
    because TEXT NOT NULL,
    closed_at TEXT,
    closed_by TEXT,
    reason TEXT
) STRICT;
CREATE UNIQUE INDEX one_open_breaker ON breaker ((closed_at IS NULL)) WHERE closed_at IS NULL;

-- May this rung be carried out on this target? An approval serves one attempt.
CREATE TABLE approval (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    incident INTEGER NOT NULL REFERENCES incident (id),
    policy_rule TEXT NOT NULL,
    rung INTEGER NOT NULL,
    remediation TEXT NOT NULL,
    target TEXT NOT NULL,
    asked_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    answer TEXT NOT NULL DEFAULT 'waiting',
    answered_at TEXT,
    actor TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    attempt INTEGER REFERENCES attempt (id)
) STRICT;
CREATE INDEX approval_incident ON approval (incident, id);
CREATE INDEX approval_attempt ON approval (attempt);
CREATE INDEX warning_incident ON warning (incident);

-- An operator's command as it was taken from the inbox, and what became of it.
CREATE TABLE command (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    inbox TEXT NOT NULL,
    number INTEGER NOT NULL,
    incident INTEGER REFERENCES incident (id),
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    argument TEXT NOT NULL,
    given_at TEXT NOT NULL,
    taken_at TEXT NOT NULL,
    accepted INTEGER NOT NULL,
    answer TEXT NOT NULL,
    UNIQUE (inbox, number)
) STRICT;
CREATE INDEX command_incident ON command (incident);

-- The clock beside what nobody can set, as last seen; by how many seconds it has been set since.
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot TEXT NOT NULL,
    uptime REAL NOT NULL,
    at TEXT NOT NULL,
    offset_seconds REAL NOT NULL DEFAULT 0
) STRICT;

-- Tells this journal from one that was made anew in its place.
CREATE TABLE identity (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL
) STRICT;
INSERT INTO identity (id, name) VALUES (1, lower(hex(randomblob(16))));

ALTER TABLE intake ADD COLUMN last_command INTEGER NOT NULL DEFAULT 0;

ALTER TABLE pause ADD COLUMN ended_by TEXT;
