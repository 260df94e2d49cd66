"""Certificates and kubeconfigs of one cluster, made with openssl (3.0 or newer)."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from glm_dev.cluster.commands import run
from glm_dev.cluster.plan import ClusterPlan

DAYS = "365"
CURVE = "prime256v1"
CA = "ca"
FRONT_PROXY_CA = "front-proxy-ca"


@dataclass(frozen=True, slots=True)
class Identity:
    """One certificate: the name of its files, its subject, and the names it answers to."""

    name: str
    subject: str
    alternatives: tuple[str, ...] = ()
    issuer: str = CA


def identities(plan: ClusterPlan) -> list[Identity]:
    """Every certificate of the cluster."""
    address = plan.addresses.control_plane
    local = ("DNS:localhost", "IP:127.0.0.1", f"IP:{address}")
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    api = (*(f"DNS:{name}" for name in names), *local, f"IP:{plan.addresses.api_service}")
    fixed = [
        Identity("etcd", "/CN=etcd", local),
        Identity("apiserver", "/CN=kube-apiserver", api),
        Identity("apiserver-kubelet", "/O=system:masters/CN=apiserver-kubelet"),
        Identity("front-proxy", "/CN=front-proxy", issuer=FRONT_PROXY_CA),
        Identity("admin", "/O=system:masters/CN=admin"),
        Identity("controller-manager", "/CN=system:kube-controller-manager", local),
        Identity("scheduler", "/CN=system:kube-scheduler", local),
        Identity("proxy", "/CN=system:kube-proxy"),
        Identity("coredns", "/CN=system:coredns"),
        Identity("kwok", "/O=system:masters/CN=kwok"),
    ]
    return fixed + [_node(plan, index) for index in plan.indexes]


def _node(plan: ClusterPlan, index: int) -> Identity:
    name, address = plan.node_name(index), plan.addresses.node(index)
    subject = f"/O=system:nodes/CN=system:node:{name}"
    return Identity(name, subject, (f"DNS:{name}", f"IP:{address}"))


def create_all(plan: ClusterPlan) -> None:
    """Make both authorities, every certificate and the key of the service accounts."""
    folder = plan.folder("pki")
    folder.chmod(0o700)
    for authority in (CA, FRONT_PROXY_CA):
        _authority(folder, authority)
    with ThreadPoolExecutor(4) as pool:
        key = pool.submit(_service_account_key, folder)
        list(pool.map(lambda identity: _certificate(folder, identity), identities(plan)))
        key.result()


def _authority(folder: Path, name: str) -> None:
    _request(
        folder,
        name,
        f"/CN={name}",
        ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"],
    )


def _certificate(folder: Path, identity: Identity) -> None:
    extensions = [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature,keyEncipherment",
        "extendedKeyUsage=serverAuth,clientAuth",
    ]
    if identity.alternatives:
        extensions.append("subjectAltName=" + ",".join(identity.alternatives))
    issuer = folder / identity.issuer
    signer = ["-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key"]
    _request(folder, identity.name, identity.subject, extensions, signer)


def _request(
    folder: Path, name: str, subject: str, extensions: Sequence[str], signer: Sequence[str] = ()
) -> None:
    added = [word for extension in extensions for word in ("-addext", extension)]
    curve = ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{CURVE}", "-noenc"]
    files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
    # -config /dev/null: the machine's own openssl.cnf must not add extensions to ours.
    base = ["openssl", "req", "-config", "/dev/null", "-x509", "-days", DAYS, "-subj", subject]
    run(*base, *curve, *signer, *added, *files)


def _service_account_key(folder: Path) -> None:
    key, public = str(folder / "sa.key"), str(folder / "sa.pub")
    run("openssl", "ecparam", "-genkey", "-name", CURVE, "-noout", "-out", key)
    run("openssl", "ec", "-in", key, "-pubout", "-out", public)


def kubeconfig(plan: ClusterPlan, identity: str) -> str:
    """A kubeconfig with everything inside. It is JSON, which is YAML too."""
    folder = plan.directory / "pki"

    def embedded(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    cluster = {"server": plan.api_url, "certificate-authority-data": embedded(f"{CA}.crt")}
    user = {
        "client-certificate-data": embedded(f"{identity}.crt"),
        "client-key-data": embedded(f"{identity}.key"),
    }
    context = {"cluster": plan.name, "user": identity}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": plan.name, "cluster": cluster}],
        "users": [{"name": identity, "user": user}],
        "contexts": [{"name": plan.name, "context": context}],
        "current-context": plan.name,
    }
    return json.dumps(document, indent=1)


def write_kubeconfig(plan: ClusterPlan, identity: str, path: Path) -> Path:
    """Write a kubeconfig that only its owner can read, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(kubeconfig(plan, identity))
    return path
