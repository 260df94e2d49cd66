"""The configuration files of one node."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

from glm_dev.cluster.binaries import CONTAINERD, KUBERNETES
from glm_dev.cluster.cgroups import node_cgroup
from glm_dev.cluster.commands import run
from glm_dev.cluster.plan import ENGINE_HANDLER, ENGINE_MODELS, ENGINE_ROOT, ClusterPlan

PAUSE_IMAGE = "localhost/glm-dev/pause:1"
SOCKET = "/run/containerd/containerd.sock"
MOST_OPEN_FILES = 1_000_000
POD_BRIDGE = "cni0"


def write_all(plan: ClusterPlan, index: int) -> None:
    """Write every file into the node's folder."""
    folder = plan.node_folder(index) / "etc"
    cni = folder / "cni"
    cni.mkdir(parents=True, exist_ok=True)
    (cni / "10-pods.conflist").write_text(json.dumps(cni_config(plan, index)))
    (folder / "kubelet.yaml").write_text(json.dumps(kubelet_config(plan, index)))
    (folder / "kube-proxy.yaml").write_text(json.dumps(proxy_config(plan, index)))
    (folder / "containerd.toml").write_text(containerd_config(plan, folder))
    (folder / "resolv.conf").write_text(f"nameserver {plan.addresses.control_plane}\n")
    (folder / "kubelet.sh").write_text(kubelet_script(plan, index))
    if plan.engine:
        (folder / "engine-spec.json").write_text(json.dumps(engine_spec(plan.engine)))


def environment(plan: ClusterPlan, index: int, device_plugin: str) -> dict[str, str]:
    """What node.sh is told."""
    addresses, shape = plan.addresses, plan.nodes[index - 1]
    others = [other for other in plan.indexes if other != index]
    routes = [f"{addresses.pods(i)} {addresses.node(i)}" for i in others]
    return {
        "NODE_NAME": plan.node_name(index),
        "NODE_DIR": str(plan.node_folder(index)),
        "NODE_ADDRESS": f"{addresses.node(index)}/{addresses.machines.prefixlen}",
        "CLUSTER_CIDR": str(addresses.cidr),
        "CONTROL_PLANE": str(addresses.control_plane),
        "POD_ROUTES": "\n".join(routes),
        "CPUS": str(shape.cpus),
        "MEMORY_KIB": str(shape.memory_gib << 20),
        "CONTAINERD": str(CONTAINERD.path("containerd")),
        "KUBE_PROXY": str(KUBERNETES.path("kube-proxy")),
        "DEVICE_PLUGIN": device_plugin if shape.gpus else "",
        # containerd looks for its shim on PATH, and another containerd may be installed.
        "PATH": f"{CONTAINERD.folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }


def kubelet_script(plan: ClusterPlan, index: int) -> str:
    """Starts the kubelet inside the node: at its boot, and again after kubelet-stop."""
    folder = plan.node_folder(index) / "etc"
    labels = ",".join(f"{k}={v}" for k, v in plan.nodes[index - 1].labels().items())
    command = [
        str(KUBERNETES.path("kubelet")),
        f"--config={folder}/kubelet.yaml",
        f"--kubeconfig={folder}/kubelet.conf",
        f"--hostname-override={plan.node_name(index)}",
        f"--node-ip={plan.addresses.node(index)}",
        f"--node-labels={labels}",
    ]
    quoted = " ".join(f"'{word}'" for word in command)
    return f"echo $$ >/run/kubelet.pid\nexec {quoted} >>/var/log/kubelet.log 2>&1 </dev/null\n"


def kubelet_config(plan: ClusterPlan, index: int) -> dict[str, Any]:
    """KubeletConfiguration: quick to report, never evicts, deletes no image."""
    crypto, name = plan.directory / "pki", plan.node_name(index)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    endless = limit == resource.RLIM_INFINITY or limit > MOST_OPEN_FILES
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node_cgroup(plan, index),
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{crypto}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{crypto}/{name}.crt",
        "tlsPrivateKeyFile": f"{crypto}/{name}.key",
        "clusterDomain": "cluster.local",
        "clusterDNS": [str(plan.addresses.control_plane)],
        "resolvConf": str(plan.node_folder(index) / "etc" / "resolv.conf"),
        "failSwapOn": False,
        "maxOpenFiles": MOST_OPEN_FILES if endless else limit,
        "maxPods": 110,
        "nodeStatusUpdateFrequency": "2s",
        "nodeStatusReportFrequency": "10s",
        "nodeLeaseDurationSeconds": 4,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "syncFrequency": "10s",
        "volumeStatsAggPeriod": "-1s",
        "serializeImagePulls": False,
    }


def proxy_config(plan: ClusterPlan, index: int) -> dict[str, Any]:
    """KubeProxyConfiguration; the machine's own connection limits stay as they are."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        # What comes from elsewhere, the host for one, must return through this node.
        "detectLocalMode": "BridgeInterface",
        "detectLocal": {"bridgeInterface": POD_BRIDGE},
        "hostnameOverride": plan.node_name(index),
        "clientConnection": {"kubeconfig": str(plan.directory / "conf" / "proxy.conf")},
        "conntrack": {"maxPerCore": 0, "min": 0},
        "metricsBindAddress": "127.0.0.1:10249",
    }


def cni_config(plan: ClusterPlan, index: int) -> dict[str, Any]:
    """Pods on a bridge of the node, without masquerade: pods see each other's addresses."""
    subnet = str(plan.addresses.pods(index))
    bridge = {
        "type": "bridge",
        "bridge": POD_BRIDGE,
        "isDefaultGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]]},
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, portmap]}


def containerd_config(plan: ClusterPlan, folder: Path) -> str:
    """containerd's configuration, with the engine's runtime where there is an engine."""
    runtimes = _runtime("runc", "")
    if plan.engine:
        spec = f"base_runtime_spec = {json.dumps(str(folder / 'engine-spec.json'))}"
        runtimes += _runtime(ENGINE_HANDLER, spec)
    return f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["{CONTAINERD.folder}"]
  conf_dir = "{folder / "cni"}"
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "runc"
{runtimes}"""


def _runtime(name: str, extra: str) -> str:
    table = f"[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{name}"
    return (
        f'{table}]\n  runtime_type = "io.containerd.runc.v2"\n  {extra}\n'
        f"{table}.options]\n  SystemdCgroup = false\n"
    )


def engine_spec(engine: Path) -> dict[str, Any]:
    """containerd's own base specification with the engine's folders mounted read-only."""
    spec = dict(json.loads(run(str(CONTAINERD.path("ctr")), "oci", "spec")))
    for name, target in (("root", ENGINE_ROOT), ("models", ENGINE_MODELS)):
        source = str(engine / name)
        options = ["rbind", "ro"]
        mount = {"destination": target, "type": "bind", "source": source, "options": options}
        spec["mounts"].append(mount)
    return spec
