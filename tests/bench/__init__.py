"""Measurements, not tests: what things cost beside what they are compared with (`make bench`)."""
