"""What a step would cost on more GPUs than there are here, from one measured here and a stated model.

    python scripts/plan.py CONFIG --batch-size 64 --gpus 8,64,512 --gpus-per-host 8 --network 400

Measured, on one device of this machine: seconds of a step of the config's pretraining, data included, at the batch size
of one GPU; bytes of its gradients and of its images. Computed, with N GPUs:

    all-reduce   2 (N − 1) / N · G / W + 2 (N − 1) · a: a ring, G bytes over links of W bytes/s, a seconds of latency
                 (Thakur, Rabenseifner and Gropp 2005; Patarasu and Yuan 2009). W is --link within a host; over hosts
                 the smaller of it and --network, which the rings of a host share, as NCCL lays them.
    exposed      what the backward pass does not hide. DDP cuts the gradients into K buckets (Li et al. 2020, section
                 3.2) that are ready one after the other and are reduced one after the other: with r seconds of
                 all-reduce each and b of backward, max(r, K r − (K − 1) / K · b).
    input        images/s of a host times bytes of an image, over --input: read while the step before computes.
    step         the longer of compute + exposed, and input.

Left out: waiting for the slowest of N, evaluation, checkpoints, and that NCCL may take trees, with a latency of
2 log₂ N · a, where that is less. So what is told of many GPUs with few bytes is rather too slow.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GB = 1e9


@dataclass(frozen=True)
class Measured:
    """One GPU of this machine.

    Attributes:
        device: in words.
        model: name.
        step_seconds: forward, backward, update, batch included.
        batch_size: images of that step.
        gradient_bytes: of all trained parameters.
        image_bytes: mean size of an image where it comes from.
        num_images: that the run looks at, repeats counted.
    """

    device: str
    model: str
    step_seconds: float
    batch_size: int
    gradient_bytes: int
    image_bytes: float
    num_images: int


@dataclass(frozen=True)
class Cluster:
    """What the GPUs hang together with.

    Attributes:
        gpus_per_host: of every host.
        link_bytes: bytes/s that a GPU sends and receives at once within its host.
        network_bytes: bytes/s that a host sends and receives at once.
        latency_seconds: of one message.
        input_bytes: bytes/s of images that reach a host.
        backward_share: of a step: all that comes after the forward pass.
        bucket_bytes: of DDP.
    """

    gpus_per_host: int = 8
    link_bytes: float = 200 * GB
    network_bytes: float = 50 * GB
    latency_seconds: float = 10e-6
    input_bytes: float = 1 * GB
    backward_share: float = 2 / 3
    bucket_bytes: int = 25 << 20


@dataclass(frozen=True)
class Step:
    """A step on `gpus` GPUs; times in seconds."""

    gpus: int
    compute: float
    all_reduce: float
    exposed: float
    input: float
    sent_bytes: float
    images: int

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return max(self.compute + self.exposed, self.input)

    @property
    def images_per_second(self) -> float:
        """Over all GPUs."""
        return self.images / self.seconds

    @property
    def efficiency(self) -> float:
        """Share of `gpus` times the speed of one."""
        return self.compute / self.seconds


def ring_seconds(num_bytes: float, gpus: int, bandwidth: float, latency: float) -> float:
    """An all-reduce in a ring: N − 1 steps that add up, N − 1 that hand round, each of 1/N of the bytes."""
    return 2 * (gpus - 1) * (num_bytes / gpus / bandwidth + latency)


def exposed_seconds(bucket_seconds: float, num_buckets: int, backward_seconds: float) -> float:
    """What is left of the all-reduces when the backward pass is over."""
    if bucket_seconds == 0:
        return 0.0
    hidden = (num_buckets - 1) / num_buckets * backward_seconds
    return max(bucket_seconds, num_buckets * bucket_seconds - hidden)


def plan(measured: Measured, cluster: Cluster, gpus: int) -> Step:
    """A step on `gpus` GPUs, each with the batch size that was measured."""
    here = min(gpus, cluster.gpus_per_host)
    bandwidth = cluster.link_bytes
    if gpus > cluster.gpus_per_host:
        bandwidth = min(bandwidth, cluster.network_bytes)
    num_buckets = math.ceil(measured.gradient_bytes / cluster.bucket_bytes)
    bucket = ring_seconds(measured.gradient_bytes / num_buckets, gpus, bandwidth, cluster.latency_seconds)
    return Step(
        gpus=gpus,
        compute=measured.step_seconds,
        all_reduce=num_buckets * bucket,
        exposed=exposed_seconds(bucket, num_buckets, cluster.backward_share * measured.step_seconds),
        input=here * measured.batch_size * measured.image_bytes / cluster.input_bytes,
        sent_bytes=2 * (gpus - 1) / gpus * measured.gradient_bytes,
        images=gpus * measured.batch_size,
    )


def table(measured: Measured, cluster: Cluster, numbers: list[int]) -> str:
    """Markdown, below two sentences that say what was measured and what is assumed."""
    from ptft.report.console import duration

    lines = [
        f"Measured on {measured.device}: {measured.model}, {measured.gradient_bytes / 1e6:.1f} MB of gradients, "
        f"{1000 * measured.step_seconds:.1f} ms a step of {measured.batch_size} images of "
        f"{measured.image_bytes / 1e3:.1f} kB.",
        f"Assumed: {cluster.gpus_per_host} GPUs a host, {cluster.link_bytes / GB:g} GB/s between them, "
        f"{8 * cluster.network_bytes / GB:g} Gbit/s and {cluster.input_bytes / GB:g} GB/s of images to each host, "
        f"{1e6 * cluster.latency_seconds:g} µs of latency, {cluster.backward_share:.0%} of a step is backward.",
        "",
        "| GPUs | batch | step | compute | all-reduce | exposed | input, a host | images/s | efficiency | run |",
        "|" + 10 * "---|",
    ]
    for gpus in numbers:
        step = plan(measured, cluster, gpus)
        rate = step.images_per_second / gpus * min(gpus, cluster.gpus_per_host) * measured.image_bytes
        cells = [
            f"{gpus:,}",
            f"{step.images:,}",
            _milliseconds(step.seconds),
            _milliseconds(step.compute),
            f"{_milliseconds(step.all_reduce)}, {step.sent_bytes / 1e6:.1f} MB",
            _milliseconds(step.exposed),
            f"{_milliseconds(step.input)}, {rate / 1e6:,.1f} MB/s",
            f"{step.images_per_second:,.0f}",
            f"{step.efficiency:.0%}",
            duration(measured.num_images / step.images_per_second),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def measure(path: Path, sets: list[str], batch_size: int, step_seconds: float | None) -> Measured:
    """Times steps of a pretraining on one device, unless that is known; PtftError as `ptft check`."""
    from ptft.commands.check import time_steps
    from ptft.config.load import load
    from ptft.report.console import Console
    from ptft.run.preparation import prepare_pretrain
    from ptft.run.surroundings import Surroundings
    from ptft.settings import PretrainConfig

    config = load(path, PretrainConfig, [*sets, f"train.batch_size={batch_size}"])
    files = [record.image for record in config.task.open(config.data).records if isinstance(record.image, Path)]
    prepared = prepare_pretrain(config, Surroundings.of(Console()))
    format_ = prepared.task.format
    trained = [parameter for parameter in prepared.classifier.parameters() if parameter.requires_grad]
    pixels = format_.in_channels * format_.image_size**2
    sample = files[:: max(1, len(files) // 1000)]
    return Measured(
        device="another machine" if step_seconds else _device_name(prepared.device),
        model=prepared.model.name,
        step_seconds=step_seconds or time_steps(prepared),
        batch_size=batch_size,
        gradient_bytes=sum(parameter.numel() * parameter.element_size() for parameter in trained),
        image_bytes=sum(file.stat().st_size for file in sample) / len(sample) if sample else pixels,
        num_images=prepared.num_steps * batch_size,
    )


def _device_name(device: "torch.device") -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"a CPU, {count} thread{'s' if count > 1 else ''}"


def main() -> None:
    from ptft.errors import PtftError

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="of a pretraining")
    parser.add_argument("--batch-size", type=int, required=True, help="of one GPU")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--gpus", default="1,8,64,512", help="numbers to plan for")
    parser.add_argument("--gpus-per-host", type=int, default=8)
    parser.add_argument("--link", type=float, default=200.0, help="GB/s of a GPU within its host")
    parser.add_argument("--network", type=float, default=400.0, help="Gbit/s of a host")
    parser.add_argument("--latency", type=float, default=10.0, help="microseconds of a message")
    parser.add_argument("--input", type=float, default=1.0, help="GB/s of images that reach a host")
    parser.add_argument("--step-seconds", type=float, help="of one GPU measured elsewhere, instead of here")
    options = parser.parse_args()
    cluster = Cluster(
        gpus_per_host=options.gpus_per_host,
        link_bytes=options.link * GB,
        network_bytes=options.network * GB / 8,
        latency_seconds=options.latency / 1e6,
        input_bytes=options.input * GB,
    )
    try:
        measured = measure(options.config, options.sets, options.batch_size, options.step_seconds)
    except PtftError as error:
        sys.exit(f"plan.py: {error}")
    sys.stdout.write(table(measured, cluster, [int(number) for number in options.gpus.split(",")]))


if __name__ == "__main__":
    main()
