"""What many ranks cost on one machine: two ranks of one thread against one process of two; bytes; DDP's options.

    python scripts/bench/ddp.py pairs [--pairs 5] [--width 32] [--steps 60]   ptft itself, by turns; images/s and bytes
    python scripts/bench/ddp.py elastic              the same for train.deterministic: elastic against fixed, two ranks
    torchrun --nproc-per-node 2 scripts/bench/ddp.py options   a step with each option changed

Seconds are those of training, without starting Python and reading images. Bytes are the loopback interface's own
counter: with two ranks a ring sum sends the gradient once from each, so twice the parameters' bytes go over it.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

OUT = Path("runs/bench-ddp")
BATCH = 128


def config_of(width: int, steps: int) -> dict[str, Any]:
    """A pretraining of a small-resnet that saves at its end alone."""
    return {
        "data": {"name": "fashion-mnist-10k", "validation": 0.02},
        "model": {"name": "small-resnet", "width": width},
        "train": {"steps": steps, "batch_size": BATCH, "precision": "fp32", "memory_format": "channels_last"},
        "checkpoint": {"every": {"steps": 10 * steps}},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pairs", "elastic", "options"])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--width", type=int, default=32, help="of small-resnet")
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    if arguments.what == "options":
        time_options()
        return
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "run.yaml").write_text(json.dumps(config_of(arguments.width, arguments.steps)))
    if arguments.what == "pairs":
        compare("1 process, 2 threads", (1, 2, ()), "2 ranks, 1 thread", (2, 1, ()), arguments.pairs)
    else:
        four = ("--set", "train.accumulate=4")
        elastic = (*four, "--set", "train.deterministic=elastic")
        compare("2 ranks, fixed", (2, 1, four), "2 ranks, elastic", (2, 1, elastic), arguments.pairs)


def compare(one: str, first: tuple[Any, ...], other: str, second: tuple[Any, ...], pairs: int) -> None:
    """Alternating pairs: what the machine does meanwhile harms both alike."""
    ratios = []
    for pair in range(pairs):
        speeds = {}
        for name, how in ((one, first), (other, second))[:: 1 if pair % 2 else -1]:
            speeds[name], sent, parameters = train(*how)
            told = f", {sent / parameters:.3f} of the parameters' bytes over loopback a step" if sent else ""
            print(f"pair {pair}: {name}: {speeds[name]:,.0f} images/s{told}")
        ratios.append(speeds[other] / speeds[one])
    print(
        f"{other} against {one}: {statistics.median(ratios):.3f} (median of {pairs} pairs; "
        f"{', '.join(f'{ratio:.3f}' for ratio in sorted(ratios))})"
    )


def train(num_ranks: int, num_threads: int, more: tuple[str, ...]) -> tuple[float, float, int]:
    """Images a second, bytes over the loopback interface a step, and the parameters' bytes."""
    out = OUT / "run"
    shutil.rmtree(out, ignore_errors=True)
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={num_ranks}", "-m"]
    command = [sys.executable, "-m", *(launcher if num_ranks > 1 else []), "ptft", "pretrain", str(OUT / "run.yaml")]
    before = loopback_bytes()
    done = subprocess.run(
        [*command, "--out", str(out), *more],
        env=os.environ | {"OMP_NUM_THREADS": str(num_threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    summary = json.loads((out / "summary.json").read_text())
    from ptft import checkpoint

    weights = checkpoint.read(out / "checkpoints" / "last.pt").tensors
    trained = [
        tensor for name, tensor in weights.items() if name.endswith(("weight", "bias")) and name[:4] in ("back", "head")
    ]
    sent = (loopback_bytes() - before) / summary["steps"] if num_ranks > 1 else 0.0
    return summary["steps"] * BATCH / summary["seconds"], sent, sum(4 * tensor.numel() for tensor in trained)


def loopback_bytes() -> int:
    """Sent over the loopback interface since the machine began."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split()[9])


def time_options() -> None:
    """A step of DistributedDataParallel with each combination, every rank with one thread."""
    import torch
    from torch import distributed, nn
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

    from ptft.models import SmallResnet

    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    images, labels = torch.randn(BATCH // 4, 1, 28, 28), torch.randint(10, (BATCH // 4,))

    def seconds(bucket_mb: float, view: bool, static: bool, compress: bool) -> float:
        model = SmallResnet(name="small-resnet", width=16).build(10, 1).to(memory_format=torch.channels_last)
        wrapper = nn.parallel.DistributedDataParallel(
            model, broadcast_buffers=False, bucket_cap_mb=bucket_mb, gradient_as_bucket_view=view, static_graph=static
        )
        if compress:
            wrapper.register_comm_hook(None, bf16_compress_hook)
        times = []
        for _ in range(6):
            distributed.barrier()
            begun = time.perf_counter()
            nn.functional.cross_entropy(
                wrapper(images.contiguous(memory_format=torch.channels_last)), labels
            ).backward()
            times.append(time.perf_counter() - begun)
            model.zero_grad(set_to_none=True)
        return statistics.median(times[2:])

    # What ptft takes, and each option changed for itself.
    kinds = [(25.0, True, False, False), (1.0, True, False, False), (25.0, False, False, False)]
    kinds += [(25.0, True, True, False), (25.0, True, False, True)]
    found: dict[tuple[float, bool, bool, bool], list[float]] = {kind: [] for kind in kinds}
    for kind in 3 * kinds:  # in turn, so that what the machine does meanwhile harms all alike
        found[kind].append(seconds(*kind))
    if distributed.get_rank() == 0:
        for (bucket, view, static, compress), times in sorted(
            found.items(), key=lambda pair: statistics.median(pair[1])
        ):
            print(
                f"{1000 * statistics.median(times):7.1f} ms  bucket {bucket:g} MB  "
                f"view {view!s:5}  static {static!s:5}  {'bf16' if compress else 'fp32'}"
            )
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
