"""Fetching with the hub's real client over real sockets: whole, resumed, damaged, refused."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from glm_dev.hub import answers
from glm_dev.hub.repository import Access
from glm_serving.weights import copy, reasons
from glm_serving.weights.files import MARKER
from glm_serving.weights.patience import TRIES
from weights_runs import BIG, NAME, SOURCE, Site, site, state, until

SHARDS = 400_000
"""Cuts the tiny checkpoint into six files of weights."""
FIRST = "model-00001-of-00006.safetensors"
NEVER_FETCHED = ("README.md", "pytorch_model.bin", "original/model.safetensors")


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Site]:
    """A checkpoint with one file of weights, of more than two MiB."""
    with site(tmp_path) as made:
        yield made


@pytest.fixture
def cut(tmp_path: Path) -> Iterator[Site]:
    """A checkpoint with six files of weights."""
    with site(tmp_path, SHARDS) as made:
        yield made


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_copy_is_complete_verified_and_says_what_it_is(cut: Site) -> None:
    done = cut.fetch()
    assert (done.exit_code, done.message) == (0, "")
    published = {path.name for path in cut.folder.iterdir()} - {"README.md"}
    assert names(cut.place.final) == published | {MARKER}
    for name in published:
        assert (cut.place.final / name).read_bytes() == (cut.folder / name).read_bytes()
    assert done.facts == cut.read().facts
    assert done.facts["commit"] == cut.commit
    assert names(cut.disk / "fetching") == {cut.place.lock.name}


def test_weights_in_other_forms_stay_on_the_hub(whole: Site) -> None:
    (whole.folder / "original").mkdir()
    for name in NEVER_FETCHED:
        (whole.folder / name).write_bytes(b"x")
    whole.commit = whole.hub.publish(NAME, whole.folder)
    assert whole.fetch().exit_code == 0
    assert not any(whole.hub.served.bytes[name] for name in NEVER_FETCHED)


def test_a_complete_copy_is_done_without_asking_the_hub(whole: Site) -> None:
    first = whole.fetch()
    whole.hub.served.requests.clear()
    again = whole.fetch()
    assert (again.exit_code, again.bytes, again.facts) == (0, first.bytes, first.facts)
    assert whole.hub.served.requests == []


def test_a_cut_file_of_a_complete_copy_comes_again_and_the_folder_stays(cut: Site) -> None:
    cut.fetch()
    before = cut.place.final.stat().st_ino
    with (cut.place.final / FIRST).open("r+b") as file:
        file.truncate(1000)
    cut.hub.served.transfers.clear()
    assert cut.fetch().exit_code == 0
    assert set(cut.hub.served.transfers) == {FIRST}
    assert cut.place.final.stat().st_ino == before
    assert (cut.place.final / FIRST).read_bytes() == (cut.folder / FIRST).read_bytes()


def test_a_header_of_a_complete_copy_that_changed_is_mended(cut: Site) -> None:
    cut.fetch()
    with (cut.place.final / FIRST).open("r+b") as file:
        file.write(b"damage")
    cut.hub.served.transfers.clear()
    assert cut.fetch().exit_code == 0
    assert set(cut.hub.served.transfers) == {FIRST}


def complete(folder: Path) -> set[str]:
    """Files of a partial copy that have come whole."""
    return {name for name in names(folder) if not name.endswith(copy.PARTIAL)}


def interrupt(site: Site, how: signal.Signals) -> subprocess.Popen[str]:
    """Fetch in a process and end it while the big file is under way and others have come."""
    site.hub.faults.hold_after[BIG] = 2 << 20
    growing = site.place.partial / (BIG + copy.PARTIAL)
    with site.process() as process:
        until(lambda: growing.is_file() and growing.stat().st_size >= 1 << 20)
        until(lambda: complete(site.place.partial))
        process.send_signal(how)
        process.wait(10)
    site.hub.faults.hold_after.clear()
    site.hub.faults.release.set()
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_job_is_resumed_in_the_middle_of_a_file(whole: Site, how: signal.Signals) -> None:
    ended = interrupt(whole, how)
    assert ended.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143}[how]
    assert not whole.place.final.exists()
    whole.hub.served.bytes.clear()
    done = whole.fetch()
    assert (done.exit_code, done.message) == (0, "")
    size = (whole.folder / BIG).stat().st_size
    assert 0 < whole.hub.served.bytes[BIG] <= size - (1 << 20)


def test_files_that_came_before_the_kill_do_not_come_again(whole: Site) -> None:
    interrupt(whole, signal.SIGKILL)
    came = complete(whole.place.partial)
    whole.hub.served.transfers.clear()
    assert whole.fetch().exit_code == 0
    assert came
    assert came.isdisjoint(whole.hub.served.transfers)


def test_a_file_that_changed_on_the_disk_meanwhile_comes_again(whole: Site) -> None:
    interrupt(whole, signal.SIGKILL)
    growing = whole.place.partial / (BIG + copy.PARTIAL)
    with growing.open("r+b") as file:
        file.write(b"damage")
    assert whole.fetch().exit_code == 0
    assert (whole.place.final / BIG).read_bytes() == (whole.folder / BIG).read_bytes()


def test_a_server_without_ranges_sends_the_file_from_its_beginning(whole: Site) -> None:
    interrupt(whole, signal.SIGKILL)
    whole.hub.faults.no_ranges = True
    assert whole.fetch().exit_code == 0


def test_a_broken_connection_goes_on_where_it_stopped(whole: Site) -> None:
    whole.hub.faults.cut_after[BIG] = 3 << 19
    done = whole.fetch()
    assert done.exit_code == 0
    assert whole.hub.served.transfers[BIG] == 1
    resumed = [asked for _, path, asked in whole.hub.served.requests if path.endswith(BIG)]
    assert f"bytes={1 << 20}-" in resumed, "the client writes whole MiB"


def test_a_file_that_comes_damaged_once_is_fetched_again(cut: Site) -> None:
    cut.hub.faults.corrupt[FIRST] = 1
    assert cut.fetch().exit_code == 0
    assert cut.hub.served.transfers[FIRST] == 2


def test_a_file_that_comes_damaged_twice_is_named(cut: Site) -> None:
    cut.hub.faults.corrupt[FIRST] = 2
    failed = cut.fetch()
    assert (failed.exit_code, failed.reason, failed.file) == (3, reasons.FILE_DAMAGED, FIRST)
    assert f"{FIRST} is damaged: its SHA-256 is " in failed.message
    assert not cut.place.final.exists()


def test_a_small_file_that_comes_damaged_is_found_by_gits_checksum(cut: Site) -> None:
    cut.hub.faults.corrupt["config.json"] = 2
    failed = cut.fetch()
    assert (failed.reason, failed.file) == (reasons.FILE_DAMAGED, "config.json")
    assert "its Git checksum is " in failed.message


@pytest.mark.parametrize("left", [0, 1000])
def test_a_file_that_the_hub_lost_the_end_of_is_named(cut: Site, left: int) -> None:
    cut.hub.faults.truncate[FIRST] = left
    failed = cut.fetch()
    assert (failed.exit_code, failed.reason, failed.file) == (3, reasons.FILE_DAMAGED, FIRST)


def test_a_file_that_was_published_cut_is_found_by_its_header(cut: Site) -> None:
    with (cut.folder / FIRST).open("r+b") as file:
        file.truncate(50_000)
    cut.commit = cut.hub.publish(NAME, cut.folder)
    failed = cut.fetch()
    assert (failed.reason, failed.file) == (reasons.FILE_DAMAGED, FIRST)
    assert "it has 50000 bytes and its header promises" in failed.message


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", FIRST])
def test_a_file_that_the_repository_lacks_is_named(cut: Site, name: str) -> None:
    (cut.folder / name).unlink()
    cut.commit = cut.hub.publish(NAME, cut.folder)
    failed = cut.fetch()
    assert (failed.exit_code, failed.reason, failed.file) == (3, reasons.FILE_MISSING, name)
    assert f"{SOURCE} holds no {name}" in failed.message or name == FIRST
    assert (cut.read().reason, cut.read().file) == (reasons.FILE_MISSING, name)


def test_a_file_that_the_store_lost_is_named(cut: Site) -> None:
    cut.hub.faults.gone.add(FIRST)
    failed = cut.fetch()
    assert (failed.exit_code, failed.reason, failed.file) == (3, reasons.FILE_MISSING, FIRST)


def test_a_disk_without_room_is_told_with_the_shortage_before_the_first_byte(cut: Site) -> None:
    failed = cut.fetch(free=lambda folder: 1_000_000)
    assert (failed.exit_code, failed.reason) == (3, reasons.DISK_TOO_SMALL)
    needed = sum(path.stat().st_size for path in cut.folder.iterdir() if path.name != "README.md")
    assert f"{needed} more bytes must be written and 1000000 are free" in failed.message
    assert f"{needed - 1_000_000} too few" in failed.message
    assert cut.hub.served.bytes.total() == 0


def test_what_is_there_already_needs_no_room(whole: Site) -> None:
    interrupt(whole, signal.SIGKILL)
    size = (whole.folder / BIG).stat().st_size
    assert whole.fetch(free=lambda folder: size - (1 << 20) + (1 << 16)).exit_code == 0


def test_two_jobs_on_one_disk_are_one_download(whole: Site) -> None:
    whole.hub.faults.hold_after[BIG] = 1 << 20
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with whole.process() as first, whole.process(*whole.fetching, "--state-port", str(port)) as two:
        until(lambda: whole.hub.faults.held.is_set() and waits(port))
        whole.hub.faults.release.set()
        assert (first.wait(20), two.wait(20)) == (0, 0)
    assert set(whole.hub.served.transfers.values()) == {1}


def waits(port: int) -> bool:
    """Whether the second of two processes waits; either may have been the first."""
    try:
        return state(port)["stage"] in ("Waiting", "Fetching")
    except OSError:
        return False


def test_a_running_job_tells_how_far_it_is(whole: Site) -> None:
    whole.hub.faults.hold_after[BIG] = 2 << 20
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with whole.process(*whole.fetching, "--state-port", str(port)) as running:
        until(lambda: waits(port) and state(port)["bytesPerSecond"] > 0)
        told = state(port)
        assert (told["stage"], told["totalBytes"] > told["bytes"]) == ("Fetching", True)
        assert told["bytes"] >= 1 << 20
        whole.hub.faults.release.set()
        assert running.wait(20) == 0


def test_a_process_leaves_its_result_and_files_for_its_group_alone(whole: Site) -> None:
    result = whole.disk.parent / "result"
    with whole.process(*whole.fetching, "--result", str(result)) as running:
        assert running.wait(20) == 0
    assert '"outcome":"Done"' in result.read_text()
    modes = {path.stat().st_mode & 0o777 for path in whole.place.final.iterdir()}
    assert modes == {0o640}
    assert whole.place.final.stat().st_mode & 0o777 == 0o750


def test_a_hub_that_is_away_for_a_while_is_waited_for(whole: Site) -> None:
    whole.hub.faults.unavailable = 3
    assert whole.fetch().exit_code == 0
    assert len(whole.pauses) >= 1


def test_a_hub_that_stays_away_is_transient(whole: Site) -> None:
    whole.hub.faults.unavailable = -1
    failed = whole.fetch()
    assert (failed.exit_code, failed.reason) == (1, reasons.HUB_UNREACHABLE)
    assert f"{whole.url} cannot be used now: it answers HTTP 503" in failed.message
    assert len(whole.pauses) == TRIES - 1


def test_no_hub_at_all_is_transient(whole: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        whole.url = f"http://127.0.0.1:{found.getsockname()[1]}"
    failed = whole.fetch()
    assert (failed.exit_code, failed.reason) == (1, reasons.HUB_UNREACHABLE)
    assert "name a mirror as HF_ENDPOINT in the Secret of weights.secretRef" in failed.message


@pytest.mark.parametrize("endpoint", ["huggingface.co", "http://[", "ftp://hub"])
def test_an_endpoint_that_is_no_address_is_shown(whole: Site, endpoint: str) -> None:
    whole.url = endpoint
    failed = whole.read()
    assert failed.reason == reasons.HUB_UNREACHABLE
    assert failed.message.startswith(f"{endpoint} cannot be used now: ")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"id": 3, "siblings": [1]}'])
def test_something_else_than_a_hub_is_told(
    whole: Site, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(answers, "model_info", lambda *_: body)
    failed = whole.read()
    assert failed.reason == reasons.HUB_UNREACHABLE
    assert "its answer makes no sense" in failed.message


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "t\u00f6ken"])
def test_a_token_that_is_none_is_refused_and_not_shown(whole: Site, token: str) -> None:
    failed = whole.read(token=token)
    assert (failed.exit_code, failed.reason) == (3, reasons.TOKEN_REFUSED)
    assert token not in failed.message
    assert whole.hub.served.requests == []


@pytest.mark.parametrize("command", ["read", "fetch"])
@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("", "is gated, and no token was given"),
        ("stranger", "is gated, and the token given has not been let in: accept its licence at"),
        ("forged", "refuses the token for hf://zai-org/GLM-4.6V (HTTP 401)"),
    ],
)
def test_a_gated_repository_says_what_to_do(
    whole: Site, command: str, token: str, words: str
) -> None:
    whole.hub.tokens.add("stranger")
    whole.hub.publish(NAME, whole.folder, access=Access.GATED, readers=["reader"])
    failed = whole.fetch(token=token) if command == "fetch" else whole.read(token=token)
    assert (failed.exit_code, failed.reason) == (3, reasons.TOKEN_REFUSED)
    assert words in failed.message
    assert "HF_TOKEN into the Secret of weights.secretRef" in failed.message


@pytest.mark.parametrize("access", [Access.GATED, Access.PRIVATE])
def test_the_right_token_opens(whole: Site, access: Access) -> None:
    whole.hub.publish(NAME, whole.folder, access=access, readers=["reader"])
    assert whole.read(token="reader").exit_code == 0
    assert whole.fetch(token="reader").exit_code == 0


def test_the_token_is_shown_to_the_hub_alone(whole: Site) -> None:
    """Large files come from another host, whose signed addresses bear no second credential."""
    whole.hub.publish(NAME, whole.folder, access=Access.GATED, readers=["reader"])
    whole.hub.store = whole.url.replace("127.0.0.1", "localhost")
    assert whole.fetch(token="reader").exit_code == 0
    shown = {(host.partition(":")[0], token) for host, token in whole.hub.served.bearers}
    assert shown == {("127.0.0.1", "reader"), ("localhost", "")}


def test_a_repository_that_nobody_sees_without_a_token_may_be_misspelt(whole: Site) -> None:
    failed = whole.read("--source", "hf://zai-org/GLM-46V")
    assert failed.reason == reasons.TOKEN_REFUSED
    assert "correct model.uri if there is no such repository" in failed.message


def test_a_repository_that_is_not_there_is_told_to_who_has_a_token(whole: Site) -> None:
    whole.hub.tokens.add("known")
    failed = whole.read("--source", "hf://zai-org/GLM-46V", token="known")
    assert (failed.exit_code, failed.reason) == (3, reasons.CHECKPOINT_NOT_FOUND)
    assert "has no repository zai-org/GLM-46V: correct model.uri" in failed.message


@pytest.mark.parametrize("source", ["GLM-4.6V", "hf://GLM-4.6V", "hf://a/b/c", "hf:///b"])
def test_an_address_that_names_no_repository_is_shown(whole: Site, source: str) -> None:
    failed = whole.read("--source", source)
    assert failed.message == (
        f"{source} names no repository: write model.uri as hf://organisation/name."
    )


def test_a_name_that_no_repository_can_have_is_told(whole: Site) -> None:
    failed = whole.read("--source", "hf://zai-org/GLM 4.6V")
    assert (failed.exit_code, failed.reason) == (3, reasons.CHECKPOINT_NOT_FOUND)


def test_a_branch_is_read_as_its_commit(whole: Site) -> None:
    (whole.folder / "chat_template.jinja").write_text("another\n")
    other = whole.hub.publish(NAME, whole.folder, branch="refs/pr/7")
    assert whole.read().facts["commit"] == whole.commit
    told = whole.read("--source", SOURCE, "--revision", "refs/pr/7")
    assert told.facts["commit"] == other != whole.commit


def test_a_revision_that_is_not_there_is_named(whole: Site) -> None:
    failed = whole.read("--source", SOURCE, "--revision", "v2")
    assert (failed.exit_code, failed.reason) == (3, reasons.CHECKPOINT_NOT_FOUND)
    assert f'{SOURCE} has no revision "v2"' in failed.message


def test_reading_takes_headers_and_no_weights(cut: Site) -> None:
    cut.read()
    sent = sum(len(request[2]) > 0 for request in cut.hub.served.requests)
    assert sent > 0
    assert all(method == "GET" for method, _, _ in cut.hub.served.requests)
    cut.hub.faults.no_ranges = True
    assert cut.read().exit_code == 0


def test_a_file_that_is_too_large_for_http_is_named(
    whole: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "MAX_HTTP_DOWNLOAD_SIZE", 1_000_000)
    failed = whole.fetch()
    assert (failed.exit_code, failed.file) == (3, BIG)


def test_a_disk_that_may_not_be_written_is_named(whole: Site) -> None:
    whole.disk.write_text("no folder")
    failed = whole.fetch()
    assert (failed.exit_code, failed.reason) == (3, reasons.CHECKPOINT_UNREADABLE)
    assert str(whole.disk) in failed.message


@pytest.mark.cluster
@pytest.mark.parametrize("lies", [False, True], ids=["known before", "found out"])
def test_a_real_disk_that_is_full_is_told(whole: Site, lies: bool) -> None:
    whole.disk.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(whole.disk)], check=True, timeout=10
    )
    try:
        failed = whole.fetch(free=lambda folder: 1 << 40) if lies else whole.fetch()
        assert not lies or not whole.place.partial.exists(), "the room is given back"
    finally:
        subprocess.run(["umount", str(whole.disk)], check=True, timeout=10)
    assert (failed.exit_code, failed.reason) == (3, reasons.DISK_TOO_SMALL)
    assert ("became full while" in failed.message) is lies


def test_the_hub_serves_the_clients_own_snapshot_too(whole: Site, tmp_path: Path) -> None:
    """As the engine downloads with weights.cache Ephemeral."""
    target = tmp_path / "snapshot"
    huggingface_hub.snapshot_download(
        NAME, local_dir=target, endpoint=whole.url, tqdm_class=None, token=False
    )
    shutil.rmtree(target / ".cache")
    assert names(target) == names(whole.folder)


def test_a_slowed_transfer_takes_its_time(whole: Site) -> None:
    whole.hub.faults.bytes_per_second = 4_000_000
    begin = time.monotonic()
    assert whole.fetch().exit_code == 0
    assert time.monotonic() - begin >= 0.4
