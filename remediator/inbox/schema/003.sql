-- AUTOINCREMENT rewrites a page of its own at each commit. A new row now follows the newest one, and
-- what no row shows any more is noted here: the newest rows may be forgotten, or lost by the disk.
CREATE TABLE given (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO given (name, number)
SELECT name, coalesce(seq, 0)
FROM (SELECT 'delivery' AS name UNION ALL SELECT 'command') LEFT JOIN sqlite_sequence USING (name);

-- The rows are the same with and without it, and to copy them could take minutes and fill the disk.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, ' AUTOINCREMENT', '')
WHERE type = 'table' AND name IN ('delivery', 'command');
PRAGMA writable_schema = RESET;
