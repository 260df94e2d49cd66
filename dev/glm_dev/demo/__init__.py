"""The demo: one object, real engines, real requests, every answer checked."""
