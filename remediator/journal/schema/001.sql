-- Times are UTC text with microseconds, so that they sort. JSON columns hold objects.

-- How far the worker has come in the inbox: moved in the transaction that stores what follows.
CREATE TABLE intake (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    inbox TEXT NOT NULL DEFAULT '',
    last_delivery INTEGER NOT NULL,
    refused INTEGER NOT NULL DEFAULT 0,
    truncated INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO intake (id, last_delivery) VALUES (1, 0);

-- One fault on one subject of this host: the alerts that named it share its outcome.
CREATE TABLE incident (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT NOT NULL,
    fault TEXT NOT NULL,
    title TEXT NOT NULL,
    owner TEXT,
    opened_at TEXT NOT NULL,
    closed_at TEXT,
    outcome TEXT,
    next_look_at TEXT
) STRICT;
CREATE UNIQUE INDEX one_open_incident ON incident (subject, fault) WHERE closed_at IS NULL;
CREATE INDEX incident_due ON incident (next_look_at) WHERE closed_at IS NULL;

-- One stretch of one alert from firing to resolved, however often it was delivered.
CREATE TABLE firing (
    fingerprint TEXT NOT NULL,
    starts_at TEXT NOT NULL,
    incident INTEGER NOT NULL REFERENCES incident (id),
    alertname TEXT NOT NULL,
    labels TEXT NOT NULL,
    annotations TEXT NOT NULL,
    receiver TEXT NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 0,
    first_delivery INTEGER NOT NULL,
    last_delivery INTEGER NOT NULL,
    received_at TEXT NOT NULL,
    last_received_at TEXT NOT NULL,
    resolved_at TEXT,
    PRIMARY KEY (fingerprint, starts_at)
) STRICT;
CREATE INDEX firing_incident ON firing (incident);

-- What was decided; a decision that repeats the last one only counts up.
CREATE TABLE decision (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    incident INTEGER NOT NULL REFERENCES incident (id),
    fingerprint TEXT NOT NULL,
    starts_at TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT,
    because TEXT NOT NULL,
    until TEXT,
    policy_rule TEXT,
    evidence TEXT NOT NULL,
    at TEXT NOT NULL,
    last_at TEXT NOT NULL,
    times INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX decision_incident ON decision (incident, id);

CREATE TABLE warning (
    fingerprint TEXT NOT NULL,
    starts_at TEXT NOT NULL,
    target TEXT NOT NULL,
    policy_rule TEXT NOT NULL,
    incident INTEGER NOT NULL REFERENCES incident (id),
    warned_at TEXT NOT NULL,
    PRIMARY KEY (fingerprint, starts_at, target, policy_rule)
) STRICT;

CREATE TABLE attempt (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    incident INTEGER NOT NULL REFERENCES incident (id),
    policy_rule TEXT NOT NULL,
    rung INTEGER NOT NULL,
    remediation TEXT NOT NULL,
    target TEXT NOT NULL,
    task TEXT NOT NULL,
    state TEXT NOT NULL,
    planned_at TEXT NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    message TEXT
) STRICT;
-- Whatever the code does: never two on one target at a time.
CREATE UNIQUE INDEX one_attempt_in_progress ON attempt (target)
    WHERE state IN ('planned', 'running', 'unknown');
CREATE INDEX attempt_incident ON attempt (incident);
CREATE INDEX attempt_planned ON attempt (planned_at);

-- What an attempt was about to do, written before it is done.
CREATE TABLE step (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    attempt INTEGER NOT NULL REFERENCES attempt (id),
    name TEXT NOT NULL,
    detail TEXT NOT NULL,
    began_at TEXT NOT NULL,
    ended_at TEXT,
    result TEXT
) STRICT;
CREATE INDEX step_attempt ON step (attempt);

-- What people must be told, in the transaction that made it true; sent by the outbox.
CREATE TABLE notice (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    incident INTEGER REFERENCES incident (id),
    kind TEXT NOT NULL,
    notifier TEXT NOT NULL,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    tries INTEGER NOT NULL DEFAULT 0,
    next_try_at TEXT NOT NULL,
    sent_at TEXT,
    result TEXT
) STRICT;
CREATE INDEX notice_pending ON notice (notifier, next_try_at) WHERE state = 'pending';
CREATE INDEX notice_incident ON notice (incident);

CREATE TABLE pause (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    began_at TEXT NOT NULL,
    ended_at TEXT
) STRICT;
