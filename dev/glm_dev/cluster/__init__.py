"""A real Kubernetes of several nodes on one machine, without Docker and without GPUs."""

from glm_dev.cluster.cluster import ClusterSpec, LocalCluster
from glm_dev.cluster.errors import ClusterError

__all__ = ["ClusterError", "ClusterSpec", "LocalCluster"]
