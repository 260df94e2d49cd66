"""Planning on a live cluster: what is said where there is none. The rest needs a real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from glm_operator.kube.transport import namespace_of
from glm_operator.preview.live import Target
from object_cases import base

CONFIG = {
    "clusters": [{"name": "here", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "me", "user": {}}],
    "contexts": [
        {"name": "plain", "context": {"cluster": "here", "user": "me"}},
        {"name": "team", "context": {"cluster": "here", "user": "me", "namespace": "ml"}},
    ],
    "current-context": "plain",
}


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(CONFIG))
    return file


def planned(tmp_path: Path, *flags: str, **env: str) -> tuple[int, str]:
    """Exit code and errors of a process of its own."""
    file = tmp_path / "object.yaml"
    file.write_text(yaml.safe_dump(base()))
    done = subprocess.run(
        [sys.executable, "-m", "glm_operator.cli", "plan", "-f", str(file), *flags],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **env},
        capture_output=True,
        text=True,
        timeout=25,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((), "no cluster can be asked (Service host/port is not set.)"),
        (("--kubeconfig", "missing"), "no cluster can be asked ("),
        (("--kubeconfig", "config", "--context", "moon"), "no cluster can be asked ("),
        (("--kubeconfig", "config"), "no answer from the API server"),
    ],
    ids=["none", "no file", "no context", "no answer"],
)
def test_without_a_cluster_the_way_out_is_named(
    tmp_path: Path, kubeconfig: Path, flags: tuple[str, ...], sentence: str
) -> None:
    paths = [str(kubeconfig.parent / one) if one == "config" else one for one in flags]
    code, err = planned(tmp_path, *paths)
    assert (code, err.count("\n")) == (2, 1)
    assert sentence in err
    assert "set KUBECONFIG, or give the nodes with --nodes or --node-shape" in err


def test_a_server_that_does_not_answer_is_named(tmp_path: Path, kubeconfig: Path) -> None:
    assert "asked at http://127.0.0.1:1: " in planned(tmp_path, "--kubeconfig", str(kubeconfig))[1]


def test_a_context_without_a_kubeconfig_is_one_sentence(tmp_path: Path) -> None:
    code, err = planned(tmp_path, "--context", "nope")
    assert (code, err.count("\n")) == (2, 1)
    assert "--context is nope, and there is no kubeconfig that could have it" in err


NUMBER_AS_SERVER = yaml.safe_dump(
    CONFIG | {"clusters": [{"name": "here", "cluster": {"server": 5}}]}
).encode()


@pytest.mark.parametrize(
    "content",
    [NUMBER_AS_SERVER, b"# A page\n\n- of: [text", b"hello", b"a: [", b"\xff\x00\x01", b"[" * 3000],
)
def test_a_file_that_is_no_kubeconfig_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd").write_bytes(content)
    code, err = planned(tmp_path, "--kubeconfig", str(tmp_path / "odd"))
    assert (code, err.count("\n")) == (2, 1)
    assert f"no cluster can be asked (kubeconfig {tmp_path / 'odd'}: " in err


@pytest.mark.parametrize(("context", "expected"), [("", "default"), ("team", "ml")])
def test_the_namespace_is_the_one_that_kubectl_would_use(
    kubeconfig: Path, context: str, expected: str
) -> None:
    assert namespace_of(str(kubeconfig), context) == expected


def test_in_a_pod_without_a_kubeconfig_the_namespace_is_default() -> None:
    assert namespace_of("") == "default"


def test_the_flag_comes_before_the_variable_and_that_before_the_usual_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert Target().file() == ""
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").touch()
    assert Target().file() == str(tmp_path / ".kube" / "config")
    monkeypatch.setenv("KUBECONFIG", "/a:/b")
    assert Target().file() == "/a:/b"
    assert Target(kubeconfig="/c").file() == "/c"
