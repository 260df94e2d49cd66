"""Development tools: local cluster, engines without GPUs, demo."""
