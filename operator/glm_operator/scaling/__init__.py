"""How many replicas there should be, from the work that arrives: pure, with the clock injected."""
