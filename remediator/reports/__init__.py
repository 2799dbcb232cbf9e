"""Reports of a month: read from the journal, and put into words, tables and a file."""
