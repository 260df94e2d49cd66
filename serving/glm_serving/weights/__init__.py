"""Brings checkpoints to where engines read them, and tells what they are: `glm-weights`."""
