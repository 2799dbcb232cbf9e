-- What is counted for good: neither a restart nor the forgetting of incidents takes it away.
CREATE TABLE tally (
    name TEXT NOT NULL,
    labels TEXT NOT NULL,
    amount REAL NOT NULL,
    PRIMARY KEY (name, labels)
) STRICT, WITHOUT ROWID;
INSERT INTO tally (name, labels, amount)
    SELECT 'attempts', remediation || '/' || state, count(*) FROM attempt
    WHERE state IN ('succeeded', 'failed', 'refused') GROUP BY remediation, state;
INSERT INTO tally (name, labels, amount)
    SELECT 'decisions', verdict || '/' || coalesce(reason, ''), count(*) FROM decision
    GROUP BY verdict, reason;

-- What a month's report asks for, without reading the other months.
CREATE INDEX attempt_ended ON attempt (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX incident_closed ON incident (closed_at) WHERE closed_at IS NOT NULL;
CREATE INDEX decision_at ON decision (at);
CREATE INDEX warning_at ON warning (warned_at);
CREATE INDEX extension_given ON extension (given_at);
CREATE INDEX lasting_ended ON lasting (ended_at) WHERE ended_at IS NOT NULL;
