"""The whole pipeline under fire: ``make chaos``."""
