"""Closes the loop between GPU monitoring and GPU operations on a shared Docker host."""

__version__ = "0.1.0"
