"""What the engine's interpreter runs to make the tiny checkpoints; imports nothing of ours."""
