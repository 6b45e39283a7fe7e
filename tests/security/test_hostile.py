"""What comes from others and means harm: YAML, zip and zstd bombs, pickles, frames without end,
servers for everybody.
"""

from __future__ import annotations

import ast
import asyncio
import pickle
import re
import struct
import time
import zipfile
from collections import deque
from pathlib import Path

import pytest
import zstandard

from mcl import composition
from mcl.base.errors import BrokerError, ConfigError, DataError
from mcl.base.files import plain_yaml
from mcl.broker.ib import LARGEST_FRAME, IBBroker
from mcl.config import schema
from mcl.data import dbn
from mcl.data.download import dbn_check
from mcl.data.sources import lean
from mcl.data.table import zone
from mcl.market.instruments import MCL
from mcl.simulators.tws import SimulatedTWS

PACKAGE = Path(composition.__file__).resolve().parents[1]
BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)  # 9**9 numbers


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "more than 100,000 values"),
        ("a: &a\n  b: *a\n", "more than 100,000 values"),
        ("x: " + "[" * 5000 + "]" * 5000, "nested too deep|more than 100,000 values"),
        ("# " + "x" * 5_000_000, "more than 4,000,000"),
        ("!!python/object/apply:os.system ['touch /tmp/owned']", "not YAML"),
        ("a: !!python/name:os.system", "not YAML"),
        ("a: [1", "not YAML"),
        ("a: \x00", "not YAML"),
    ],
    ids=["bomb", "self", "deep", "long", "apply", "name", "cut", "nul"],
)
def test_yaml_is_data_of_a_sane_size(text: str, reason: str) -> None:
    began = time.process_time()
    with pytest.raises(ConfigError, match=reason):
        plain_yaml(text, "evil.yaml")
    assert time.process_time() - began < 5  # of CPU: it was not written out


def test_plain_yaml_reads_what_is_plain() -> None:
    assert plain_yaml("a: &a [1, 2]\nb: *a\nc: 2024-01-01\n", "x")["b"] == [1, 2]
    assert plain_yaml("", "x") is None
    for path in sorted((PACKAGE.parent / "conf").rglob("*.yaml")):
        plain_yaml(path.read_text(), path.name)


def test_a_study_from_elsewhere_cannot_be_a_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "evil.yaml").write_text("# @package _global_\n" + BOMB)
    with pytest.raises(ConfigError, match=r"evil\.yaml stands for more than 100,000 values"):
        composition.compose("backtest", ["experiment=evil"])


def test_a_promoted_file_cannot_make_objects(tmp_path: Path) -> None:
    """Every place that reads YAML which another process wrote goes through plain_yaml; nothing
    loads YAML otherwise.
    """
    loads = re.compile(r"yaml\.(load|safe_load|full_load|unsafe_load|load_all)\(")
    found = [
        str(p.relative_to(PACKAGE))
        for p in sorted(PACKAGE.rglob("*.py"))
        if loads.search(p.read_text())
    ]
    assert found == ["base/files.py"]
    del tmp_path


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_pickles_come_from_own_children_only() -> None:
    """No module but the worker pools, whose pickles are made by the parent of the process that
    reads them, can unpickle.
    """
    dangerous = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = imported(node)
            if any(name.split(".")[0] in dangerous for name in names):
                found.add(str(path.relative_to(PACKAGE)))
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant)
                assert node.value.value is False, path
    assert found == {"search/worker_pool.py", "search/ray_workers.py"}


def test_a_pickle_in_the_place_of_data_is_refused(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return (Path.touch, (str(tmp_path / "owned"),))

    path = tmp_path / "x.dbn.zst"
    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(DataError):
        dbn.header(path)
    assert not (tmp_path / "owned").exists()


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "LARGEST_DAY", 5_000_000)
    path = tmp_path / "comex__minute__gc__20131010_trade.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("20131010_gc_minute_trade_201312.csv", b"0" * 10_000_000)
    assert path.stat().st_size < 20_000
    with pytest.raises(DataError, match=r"unpacks to 0\.0 GB"):
        lean._members(path, "GC", zone("UTC"))


def test_a_zstd_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """A gigabyte of zeros in 33 kB: stopped after some megabytes."""
    path = tmp_path / "bomb.dbn.zst"
    squeeze = zstandard.ZstdCompressor(level=3).compressobj()
    path.write_bytes(
        b"".join(squeeze.compress(bytes(1 << 24)) for _ in range(64)) + squeeze.flush()
    )
    assert path.stat().st_size < 100_000
    for read in (
        lambda p: deque(dbn._inflated(p), maxlen=0),
        lambda p: dbn_check.inspect(p, "ohlcv-1m"),
    ):
        with pytest.raises(DataError, match="more than 1000 times its size"):
            read(path)


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "header.dbn"
    path.write_bytes(b"DBN\x03" + struct.pack("<I", 0xFFFFFFFF) + bytes(100))
    with pytest.raises(DataError, match="announces a header of 4,294,967,295 bytes"):
        dbn.header(path)


@pytest.mark.parametrize("when", ["at once", "after the handshake"])
def test_a_tws_that_announces_an_endless_message_is_left(when: str) -> None:
    """ib_async would collect up to 4 GB; the door hangs up after the length."""
    received = 0

    async def hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await reader.read(100)
        if when != "at once":
            payload = b"178\x0020260108 10:00:00 EST\x00"
            writer.write(struct.pack(">I", len(payload)) + payload)
        writer.write(struct.pack(">I", LARGEST_FRAME + 1))
        try:
            for _ in range(1000):
                writer.write(b"x" * 100_000)
                await writer.drain()
                received += 100_000
                await asyncio.sleep(0)
        except ConnectionError:
            return
        finally:
            writer.close()

    async def meet() -> None:
        server = await asyncio.start_server(hostile, "127.0.0.1", 0)
        broker = IBBroker(
            schema.BrokerConfig(timeout_sec=3.0), MCL, port=server.sockets[0].getsockname()[1]
        )
        with pytest.raises(BrokerError, match="announced a message of 16,777,217 bytes"):
            await broker.connect()
        await broker.close()
        server.close()

    asyncio.run(meet())
    assert received < 50_000_000


def test_servers_are_for_this_machine_only() -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.host"):
        composition.validate(schema.Telemetry, {"host": "0.0.0.0", "port": 9464}, "telemetry")
    for path in (*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "conf").rglob("*.yaml")):
        text = path.read_text()
        assert "0.0.0.0" not in text, path
        assert not re.search(r"""(host|bind)=["']{2}""", text), path


def test_a_simulated_tws_does_not_trade_for_others() -> None:
    async def listen() -> None:
        tws = SimulatedTWS.__new__(SimulatedTWS)
        tws.host, tws.port = "0.0.0.0", 0
        await tws.listen()

    with pytest.raises(BrokerError, match=r"would trade for whoever reaches 0\.0\.0\.0"):
        asyncio.run(listen())
