"""The real vLLM on CPU, installed once per machine, and tiny checkpoints of both architectures."""
