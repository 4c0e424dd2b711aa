"""Tracking by Weights & Biases in its offline mode, read back from the files that it would upload."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from making import Ptft, write_config
from tracking.mlflow_server import points_of

from ptft.report.journal import read_metrics
from ptft.run_folder import RunFolder

pytest.importorskip("wandb", reason="needs the extra wandb")
pytestmark = pytest.mark.filterwarnings("default")  # of wandb and what it imports


@pytest.fixture
def config(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    return write_config(tmp_path / "run.yaml", tracking=["wandb"])


def records(folder: Path) -> list[Any]:
    """What wandb has written down to send, oldest first."""
    paths = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    return [record for path in paths for record in session(path)]


def session(path: Path) -> list[Any]:
    """The records of one session; its service, a process of its own, may still be writing the last of them."""
    from wandb.proto.wandb_internal_pb2 import Record

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [Record.FromString(content) for content in contents(path.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.02)
    raise AssertionError(f"{path} has no end")


def contents(log: bytes) -> Iterator[bytes]:
    """The records of a log as LevelDB writes them (doc/log_format.md there), behind seven bytes of wandb's own."""
    place, begun = 7, b""
    while place + 7 <= len(log):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", log, place + 4)
        if place + 7 + length > len(log):
            return  # not there as a whole yet
        begun = (b"" if kind in (1, 2) else begun) + log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield begun


def points(found: list[Any]) -> list[tuple[str, int, float]]:
    rows = (
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.WhichOneof("record_type") == "history"
    )
    return sorted(
        (key, row["step"], float(value))
        for row in rows
        for key, value in row.items()
        if key[0] != "_" and key != "step"
    )


def test_an_offline_run_has_every_number_once_over_two_sessions(ptft: Ptft, config: Path, tmp_path: Path) -> None:
    ptft("pretrain", config, "--out", "a").path.stat()
    ptft("pretrain", config, "--out", "a", "--resume", "--set", "train.steps=18").path.stat()
    found = records(tmp_path)
    assert points(found) == points_of(read_metrics(RunFolder(Path("a"))))
    assert {record.run.run_id for record in found if record.HasField("run")} == {
        json.loads(Path("a/wandb.json").read_text())["run_id"]
    }
    summary = {
        item.key: json.loads(item.value_json)
        for record in found
        if record.HasField("summary")
        for item in record.summary.update
    }
    assert summary["state"] == "done"
    assert summary["final_test_top1"] == json.loads(Path("a/summary.json").read_text())["test"]["top1"]


def test_no_code_no_output_and_no_file_is_prepared_to_be_sent(ptft: Ptft, config: Path, tmp_path: Path) -> None:
    result = ptft("pretrain", config, "--out", "a")
    assert result.path.is_file()
    kinds = {record.WhichOneof("record_type") for record in records(tmp_path)}
    assert not kinds & {"output", "output_raw", "stats"}
    names = {path.name for path in tmp_path.glob("wandb/offline-run-*/files/*")}
    assert not names & {"output.log", "diff.patch", "code", "wandb-metadata.json"}
