"""scripts/plan.py: its closed forms against what they stand for, and the command on a real config."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from scripts.scene import ROOT, Scene

SCRIPT = ROOT / "scripts" / "plan.py"


@pytest.fixture(scope="module")
def planner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plan", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plan"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def simulate_ring(num_bytes: float, gpus: int, bandwidth: float, latency: float) -> tuple[float, float]:
    """Seconds, and bytes sent by each GPU, of a ring that hands chunks on until all have the whole sum."""
    chunks = [{gpu: frozenset({gpu}) for gpu in range(gpus)} for _ in range(gpus)]  # chunk -> GPU -> summed GPUs
    seconds = sent = 0.0
    for turn in range(2 * (gpus - 1)):
        moves = [((gpu - turn) % gpus, gpu, (gpu + 1) % gpus) for gpu in range(gpus)]
        values = [chunks[chunk][source] for chunk, source, _ in moves]
        for (chunk, _, target), value in zip(moves, values, strict=True):
            chunks[chunk][target] = value | chunks[chunk][target]
        seconds += num_bytes / gpus / bandwidth + latency
        sent += num_bytes / gpus
    assert all(summed == frozenset(range(gpus)) for chunk in chunks for summed in chunk.values())
    return seconds, sent


@pytest.mark.parametrize("gpus", [1, 2, 3, 8, 64])
def test_the_ring_takes_as_long_as_its_turns_do(planner: ModuleType, gpus: int) -> None:
    seconds, sent = simulate_ring(1e8, gpus, 2e10, 5e-6)
    assert planner.ring_seconds(1e8, gpus, 2e10, 5e-6) == pytest.approx(seconds)
    assert sent == pytest.approx(2 * (gpus - 1) / gpus * 1e8)


@pytest.mark.parametrize("num_buckets", [1, 2, 7])
@pytest.mark.parametrize("bucket_seconds", [0.001, 0.02, 0.3])
def test_what_is_exposed_is_what_buckets_in_a_queue_leave(
    planner: ModuleType, num_buckets: int, bucket_seconds: float
) -> None:
    backward, free = 0.2, 0.0
    for bucket in range(1, num_buckets + 1):
        free = max(free, backward * bucket / num_buckets) + bucket_seconds
    assert planner.exposed_seconds(bucket_seconds, num_buckets, backward) == pytest.approx(free - backward)


def measured_of(planner: ModuleType, **changes: object) -> object:
    values = {
        "device": "a GPU",
        "model": "resnet50",
        "step_seconds": 0.1,
        "batch_size": 64,
        "gradient_bytes": 4 * (25 << 20),
        "image_bytes": 1e5,
        "num_images": 1_000_000,
    }
    return planner.Measured(**values | changes)


def test_one_gpu_costs_what_was_measured(planner: ModuleType) -> None:
    step = planner.plan(measured_of(planner), planner.Cluster(), 1)
    assert (step.seconds, step.efficiency, step.all_reduce, step.sent_bytes) == (0.1, 1.0, 0.0, 0.0)
    assert step.images_per_second == pytest.approx(640)


def test_with_many_gpus_and_no_latency_each_sends_its_gradients_twice(planner: ModuleType) -> None:
    cluster = planner.Cluster(latency_seconds=0.0, network_bytes=1e9)
    step = planner.plan(measured_of(planner), cluster, 100_000)
    assert step.all_reduce == pytest.approx(2 * 4 * (25 << 20) / 1e9, rel=1e-4)


def test_a_slow_network_is_exposed_and_only_counts_between_hosts(planner: ModuleType) -> None:
    measured = measured_of(planner)
    slow, fast = planner.Cluster(network_bytes=1e8), planner.Cluster()
    assert planner.plan(measured, slow, 8) == planner.plan(measured, fast, 8)
    step = planner.plan(measured, slow, 16)
    assert step.exposed == pytest.approx(step.all_reduce - 3 / 4 * 2 / 3 * 0.1)
    assert step.efficiency < 0.1 < planner.plan(measured, fast, 16).efficiency


def test_a_host_that_gets_its_images_too_slowly_waits_for_them(planner: ModuleType) -> None:
    cluster = replace(planner.Cluster(), input_bytes=1e8)
    step = planner.plan(measured_of(planner), cluster, 16)
    assert step.seconds == step.input == pytest.approx(8 * 64 * 1e5 / 1e8)


def test_the_command_measures_a_config_and_prints_a_row_for_each_number(scene: Scene) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "run.yaml", "--batch-size", "8", "--gpus", "1,8,512"],
        cwd=scene.path,
        env=scene.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows] == ["GPUs", "1", "8", "512"]
    assert rows[1][1] == "8"
    assert rows[1][8] == "100%"
    size = sum(path.stat().st_size for path in Path(scene.path / "photos").rglob("*.*")) / 36
    assert f"images of {size / 1e3:.1f} kB" in done.stdout
