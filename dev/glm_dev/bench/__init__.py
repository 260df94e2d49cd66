"""Measurements against this machine's own addresses."""
