"""What fits on which GPU, as the planner sees it: docs/sizing.md and the comments of examples/."""
