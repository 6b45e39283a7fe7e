"""Files appear whole or not at all."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from mcl.errors import StoreError
from mcl.files import write_whole


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
