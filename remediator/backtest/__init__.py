"""Replay history: which alerts would have fired, and what would have been done about them."""
