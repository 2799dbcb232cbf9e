"""The receiver: what faces the network; it can ask, and cannot act."""
