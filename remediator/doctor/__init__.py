"""Is the whole pipeline healthy, and if not, what mends it."""
