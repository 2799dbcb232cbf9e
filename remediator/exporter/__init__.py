"""The DS01 exporter: what every container and GPU is doing, for Prometheus."""
