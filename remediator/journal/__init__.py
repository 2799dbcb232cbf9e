"""What the worker knows and did; written by the worker only."""
