-- What the page asks for: incidents by owner, container, alert, GPU and day, without reading all.
CREATE INDEX incident_owner ON incident (owner, id);
CREATE INDEX incident_title ON incident (title, id);
CREATE INDEX incident_subject ON incident (subject, id);
CREATE INDEX incident_opened ON incident (opened_at, id);
CREATE INDEX incident_open ON incident (id) WHERE closed_at IS NULL;
CREATE INDEX firing_alertname ON firing (alertname, incident);
CREATE INDEX attempt_succeeded ON attempt (remediation, ended_at) WHERE state = 'succeeded';
CREATE INDEX approval_waiting ON approval (expires_at) WHERE answer = 'waiting';

-- Which GPUs an incident is about: by the alert's labels, and by what an attempt found.
CREATE TABLE incident_gpu (
    gpu TEXT NOT NULL,
    incident INTEGER NOT NULL REFERENCES incident (id),
    PRIMARY KEY (gpu, incident)
) STRICT, WITHOUT ROWID;
CREATE INDEX incident_gpu_incident ON incident_gpu (incident);
INSERT OR IGNORE INTO incident_gpu (gpu, incident)
    SELECT value, incident
    FROM firing, json_each(CASE WHEN json_valid(labels) THEN labels ELSE '{}' END)
    WHERE key IN ('UUID', 'gpu', 'gpu_slot') AND type = 'text' AND value <> '';
