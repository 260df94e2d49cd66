"""The shell: queue, reconcile loop, inventory, pollers, metrics."""
