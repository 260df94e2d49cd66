"""Plan to Kubernetes objects and vLLM arguments, as dicts. Pure."""
