"""Forgetting closed incidents with all that hangs on them; numbers are never given again."""

from datetime import datetime

from remediator.database import Database, stamp

# Children before parents. Notices that still wait to be sent keep their incident, and so does
# what has not been put back.
_OLD = (
    "SELECT id FROM incident i WHERE closed_at < ? AND NOT EXISTS"
    " (SELECT 1 FROM notice n WHERE n.incident = i.id AND n.state = 'pending')"
    " AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.incident = i.id AND a.ended_at IS NULL)"
    " AND NOT EXISTS (SELECT 1 FROM lasting l JOIN attempt a ON a.id IN (l.attempt, l.first)"
    " WHERE l.ended_at IS NULL AND a.incident = i.id)"
    " ORDER BY id LIMIT ?"
)
_DELETIONS = (
    "DELETE FROM approval WHERE incident = ?",
    "DELETE FROM step WHERE attempt IN (SELECT id FROM attempt WHERE incident = ?)",
    "DELETE FROM lasting WHERE attempt IN (SELECT id FROM attempt WHERE incident = ?)",
    "DELETE FROM attempt WHERE incident = ?",
    "DELETE FROM decision WHERE incident = ?",
    "DELETE FROM warning WHERE incident = ?",
    "DELETE FROM notice WHERE incident = ?",
    "DELETE FROM command WHERE incident = ?",
    "DELETE FROM firing WHERE incident = ?",
    "DELETE FROM incident_gpu WHERE incident = ?",
    "DELETE FROM incident WHERE id = ?",
)


def forget(database: Database, before: datetime, most: int) -> int:
    """Delete up to *most* incidents that were closed before *before*; return how many."""
    with database.transaction() as connection:
        old = [row["id"] for row in connection.execute(_OLD, (stamp(before), most))]
        for incident in old:
            for deletion in _DELETIONS:
                connection.execute(deletion, (incident,))
        connection.execute("DELETE FROM extension WHERE until < ?", (stamp(before),))
    return len(old)
