"""The administrator's YAML as values; every problem with its line and column."""
