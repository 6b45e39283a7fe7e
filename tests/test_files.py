"""Files appear whole or not at all."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mcl.base.errors import StoreError
from mcl.base.files import LockHeld, is_locked, is_running, locked, write_whole

OWNER = """
import sys, time
from pathlib import Path
from mcl.base.files import locked
with locked(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(600)
"""
ASKER = """
import sys, time
from pathlib import Path
from mcl.base.files import is_locked
end, wrong = time.monotonic() + 1.0, 0
while time.monotonic() < end:
    wrong += is_locked(Path(sys.argv[1]))
print(wrong)
"""


def test_a_file_appears_with_its_folder(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b.bin", b"one")
    write_whole(tmp_path / "a" / "b.bin", b"two")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.bin"]
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"two"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "config.yaml"
    write_whole(target, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StoreError, match="File too large"):
            write_whole(target, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]
    assert target.read_bytes() == b"old"


def test_a_lock_has_one_owner_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.lock"
    assert not is_locked(path)
    with locked(path):
        assert path.read_text() == str(os.getpid())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert is_locked(path)
        with pytest.raises(LockHeld) as caught, locked(path, 0.0):
            raise AssertionError
        assert caught.value.owner == str(os.getpid())
    assert not is_locked(path)
    with locked(path, 0.0):
        assert is_locked(path)


def test_a_killed_owner_lets_go_of_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(path)], stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        assert is_locked(path)
        assert is_running(owner.pid)
        with pytest.raises(LockHeld, match=f"by process {owner.pid}"), locked(path, 0.0):
            raise AssertionError
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert not is_locked(path)
    assert not is_running(owner.pid)
    with locked(path, 0.0):
        assert path.read_text() == str(os.getpid())


def test_who_only_asks_is_never_taken_for_an_owner(tmp_path: Path) -> None:
    """Processes and threads ask all the time for a lock that nobody holds; its file names a process
    that is gone.
    """
    path = tmp_path / "x.lock"
    path.write_text(str(2**22 + 1))
    askers = [
        subprocess.Popen(
            [sys.executable, "-c", ASKER, str(path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    seen: list[bool] = []
    threads = [
        threading.Thread(target=lambda: seen.extend(is_locked(path) for _ in range(50)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [asker.communicate()[0] for asker in askers] == ["0\n"] * 3
    assert not any(seen)
    with locked(path):
        assert is_locked(path)


def test_a_lock_that_is_waited_for_comes(tmp_path: Path) -> None:
    path, order = tmp_path / "x.lock", []

    def wait() -> None:
        with locked(path, float("inf")):
            order.append("second")

    with locked(path):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot lock"), locked(tmp_path / "file" / "x.lock"):
        raise AssertionError
