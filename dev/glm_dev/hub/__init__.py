"""A small hub for tests and demos, and checkpoints made from nothing to put on it."""
