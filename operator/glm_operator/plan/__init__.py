"""Observed state in, plan out. Pure."""
