"""Stop what uses the GPUs for a while, and have exactly that run again."""
