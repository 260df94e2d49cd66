"""The command lines of the control plane, and the order in which they start."""

from __future__ import annotations

import os
from pathlib import Path

from glm_dev.cluster import pki
from glm_dev.cluster.api import ApiClient
from glm_dev.cluster.binaries import COREDNS, KUBERNETES
from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.network import inside
from glm_dev.cluster.plan import RUN, ClusterPlan
from glm_dev.cluster.processes import Record, read_record, spawn
from glm_dev.kubectl import wait_for

NAMESPACE = "namespace"
"""The process that holds the network namespace of the control plane."""
NAMESPACE_SECONDS = 10.0
NODE_GRACE = "8s"
"""Silence after which a node is NotReady; its kubelet renews the lease every second."""
EVICTION_SECONDS = "10"


def start_namespace(plan: ClusterPlan) -> int:
    """Start the process that holds the network namespace, and return its id."""
    record = _spawn(plan, NAMESPACE, ["unshare", "--net", "sleep", "infinity"])
    wait_for("a network namespace", lambda: _is_apart(record.pid), NAMESPACE_SECONDS, 0.005)
    return record.pid


def _is_apart(pid: int) -> bool:
    return os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")


def namespace(plan: ClusterPlan) -> int:
    """The process that holds the network namespace.

    Raises:
        ClusterError: it is gone.
    """
    record = read_record(record_path(plan, NAMESPACE))
    if record is None or not record.alive:
        raise ClusterError(
            f"The control plane of cluster {plan.name!r} is not running: take it "
            f"`down --name {plan.name}` and start it again."
        )
    return record.pid


def start_storage(plan: ClusterPlan) -> list[Record]:
    """Start etcd and the API server."""
    return [
        start_program(plan, "etcd", etcd(plan)),
        start_program(plan, "kube-apiserver", apiserver(plan)),
    ]


def start_controllers(plan: ClusterPlan, api: ApiClient) -> list[Record]:
    """Start what needs a ready API server; DNS only where there are nodes to ask it."""
    for identity in ("controller-manager", "scheduler"):
        pki.write_kubeconfig(plan, identity, plan.folder("conf") / f"{identity}.conf")
    records = [
        start_program(plan, "kube-controller-manager", controller_manager(plan)),
        start_program(plan, "kube-scheduler", scheduler(plan)),
    ]
    return [*records, _start_dns(plan, api)] if plan.nodes else records


def _start_dns(plan: ClusterPlan, api: ApiClient) -> Record:
    _allow_dns(api)
    corefile = plan.folder("conf") / "Corefile"
    corefile.write_text(dns_config(plan))
    pki.write_kubeconfig(plan, "coredns", plan.folder("conf") / "coredns.conf")
    return start_program(plan, "coredns", [str(COREDNS.path("coredns")), "-conf", str(corefile)])


def start_program(plan: ClusterPlan, name: str, command: list[str]) -> Record:
    """Start a program beside the control plane, in its network namespace."""
    return _spawn(plan, name, [*inside(namespace(plan)), *command])


def _spawn(plan: ClusterPlan, name: str, command: list[str]) -> Record:
    return spawn(record_path(plan, name), plan.folder("log") / f"{name}.log", command)


def record_path(plan: ClusterPlan, name: str) -> Path:
    """Where a process of the cluster records itself."""
    return plan.folder(RUN) / f"{name}.pid"


def etcd(plan: ClusterPlan) -> list[str]:
    """etcd's command line; nothing is synced, because the data dies with the cluster."""
    crypto = plan.directory / "pki"
    client = f"https://{plan.addresses.control_plane}:2379"
    peer = f"https://{plan.addresses.control_plane}:2380"
    return [
        str(KUBERNETES.path("etcd")),
        "--name=member",
        f"--data-dir={plan.directory / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=member={peer}",
        f"--cert-file={crypto}/etcd.crt",
        f"--key-file={crypto}/etcd.key",
        "--client-cert-auth",
        f"--trusted-ca-file={crypto}/ca.crt",
        f"--peer-cert-file={crypto}/etcd.crt",
        f"--peer-key-file={crypto}/etcd.key",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={crypto}/ca.crt",
        "--log-level=warn",
    ]


def apiserver(plan: ClusterPlan) -> list[str]:
    """The API server's command line, with what a webhook in a pod needs (aggregator routing)."""
    crypto, address = plan.directory / "pki", plan.addresses.control_plane
    return [
        str(KUBERNETES.path("kube-apiserver")),
        f"--bind-address={address}",
        f"--advertise-address={address}",
        "--secure-port=6443",
        f"--service-cluster-ip-range={plan.addresses.services}",
        f"--etcd-servers=https://{address}:2379",
        f"--etcd-cafile={crypto}/ca.crt",
        f"--etcd-certfile={crypto}/etcd.crt",
        f"--etcd-keyfile={crypto}/etcd.key",
        f"--tls-cert-file={crypto}/apiserver.crt",
        f"--tls-private-key-file={crypto}/apiserver.key",
        f"--client-ca-file={crypto}/ca.crt",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--enable-aggregator-routing=true",
        f"--kubelet-client-certificate={crypto}/apiserver-kubelet.crt",
        f"--kubelet-client-key={crypto}/apiserver-kubelet.key",
        f"--kubelet-certificate-authority={crypto}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={crypto}/sa.pub",
        f"--service-account-signing-key-file={crypto}/sa.key",
        f"--requestheader-client-ca-file={crypto}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={crypto}/front-proxy.crt",
        f"--proxy-client-key-file={crypto}/front-proxy.key",
        f"--default-not-ready-toleration-seconds={EVICTION_SECONDS}",
        f"--default-unreachable-toleration-seconds={EVICTION_SECONDS}",
        "--profiling=false",
    ]


def controller_manager(plan: ClusterPlan) -> list[str]:
    """The controller manager's command line, quicker than the default to see a node vanish."""
    crypto, address = plan.directory / "pki", plan.addresses.control_plane
    return [
        str(KUBERNETES.path("kube-controller-manager")),
        f"--kubeconfig={plan.directory}/conf/controller-manager.conf",
        f"--bind-address={address}",
        f"--tls-cert-file={crypto}/controller-manager.crt",
        f"--tls-private-key-file={crypto}/controller-manager.key",
        "--use-service-account-credentials",
        "--leader-elect=false",
        f"--service-account-private-key-file={crypto}/sa.key",
        f"--root-ca-file={crypto}/ca.crt",
        f"--cluster-signing-cert-file={crypto}/ca.crt",
        f"--cluster-signing-key-file={crypto}/ca.key",
        "--node-monitor-period=1s",
        f"--node-monitor-grace-period={NODE_GRACE}",
        "--allocate-node-cidrs=false",
        f"--service-cluster-ip-range={plan.addresses.services}",
        # The default of 15 s is how long a claim made before its volume stays Pending.
        "--pvclaimbinder-sync-period=1s",
        "--terminated-pod-gc-threshold=50",
    ]


def scheduler(plan: ClusterPlan) -> list[str]:
    """The scheduler's command line."""
    crypto = plan.directory / "pki"
    return [
        str(KUBERNETES.path("kube-scheduler")),
        f"--kubeconfig={plan.directory}/conf/scheduler.conf",
        f"--bind-address={plan.addresses.control_plane}",
        f"--tls-cert-file={crypto}/scheduler.crt",
        f"--tls-private-key-file={crypto}/scheduler.key",
        "--leader-elect=false",
    ]


def dns_config(plan: ClusterPlan) -> str:
    """The Corefile: cluster names only, nothing is asked outside."""
    return f"""\
.:53 {{
    bind {plan.addresses.control_plane}
    errors
    cache 2
    kubernetes cluster.local {{
        kubeconfig {plan.directory}/conf/coredns.conf {plan.name}
        ttl 2
    }}
}}
"""


def _allow_dns(api: ApiClient) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": [
            _watch("", "services", "namespaces", "pods"),
            _watch("discovery.k8s.io", "endpointslices"),
        ],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "system:coredns"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "system:coredns",
        },
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}
        ],
    }
    prefix = "/apis/rbac.authorization.k8s.io/v1"
    api.create(f"{prefix}/clusterroles", role)
    api.create(f"{prefix}/clusterrolebindings", binding)


def _watch(group: str, *resources: str) -> dict[str, list[str]]:
    return {"apiGroups": [group], "resources": list(resources), "verbs": ["list", "watch"]}
