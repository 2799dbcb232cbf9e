-- What an operator wants: pause, resume, approve, reject, close the breaker. Like a delivery it is
-- stored whole; whether it makes sense is for the worker to say, and the answer is in the journal.
CREATE TABLE command (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at TEXT NOT NULL,
    actor TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
