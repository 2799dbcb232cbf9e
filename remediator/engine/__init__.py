"""From a delivery to a settled attempt; knows protocols, not Docker or NVML."""
