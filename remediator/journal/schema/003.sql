-- A decision reads the attempts that count, by target and by time, and never all there are.
CREATE INDEX attempt_on_target ON attempt (target, planned_at) WHERE state <> 'refused';
CREATE INDEX attempt_counted ON attempt (planned_at, remediation) WHERE state <> 'refused';
DROP INDEX attempt_planned;
