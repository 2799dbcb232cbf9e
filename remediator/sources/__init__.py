"""Observation only: Prometheus, Docker, NVML and /proc, in our terms."""
