"""Two hosts, made of network namespaces: torchrun's rendezvous, and the death of one of them."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed.job import differing, run_job, saved_steps, torchrun, wait_for, weights
from making import COLOURS, make_images, write_config

NAMES = ("ptft-a", "ptft-b")
ADDRESSES = ("10.213.77.1", "10.213.77.2")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10)


@pytest.fixture
def hosts() -> Iterator[None]:
    """Two namespaces joined by a cable; skipped where that is not permitted."""
    try:
        for name in NAMES:
            ip("netns", "add", name)
        ip("link", "add", "ptft-veth-a", "type", "veth", "peer", "name", "ptft-veth-b")
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            cable = f"ptft-veth-{name[-1]}"
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or error
        pytest.skip(f"network namespaces cannot be made here, so two hosts were NOT tested: {told}")
    finally:
        for name in NAMES:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=10)


def start_host(place: int, tmp_path: Path) -> "subprocess.Popen[str]":
    """torchrun on one of the hosts, in a session of its own: a killed host takes all its processes with it."""
    options = [
        "--nnodes=1:2",
        "--nproc-per-node=1",
        "--max-restarts=2",
        "--monitor-interval=0.1",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={ADDRESSES[0]}:29511",
        "--rdzv-id=two-hosts",
        # A host is taken for dead after 5 s without a word instead of 15.
        f"--rdzv-conf=last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=5,is_host={int(place == 0)}",
        f"--local-addr={ADDRESSES[place]}",
    ]
    prefix = ["setsid", "ip", "netns", "exec", NAMES[place], "env", f"GLOO_SOCKET_IFNAME=ptft-veth-{NAMES[place][-1]}"]
    return torchrun("pretrain", "run.yaml", "--out", "run", cwd=tmp_path, options=options, prefix=prefix)


@pytest.mark.usefixtures("hosts")
def test_a_job_on_two_hosts_goes_on_without_the_one_that_died(tmp_path: Path) -> None:
    """With elastic weights the end is that of an uninterrupted run to the bit, though one rank is left of two."""
    make_images(tmp_path / "photos", COLOURS, 12)
    write_config(
        tmp_path / "run.yaml",
        train={"steps": 400, "deterministic": "elastic", "accumulate": 2},
        checkpoint={"every": {"steps": 20}},
    )
    jobs = [start_host(place, tmp_path) for place in (0, 1)]
    log = tmp_path / "run" / "log.txt"
    try:
        wait_for(lambda: len(saved_steps(tmp_path / "run")) > 1 or any(job.poll() is not None for job in jobs))
        assert [job.poll() for job in jobs] == [None, None], [job.communicate() for job in jobs]
        assert '"world_size": 2' in (tmp_path / "run" / "status.json").read_text()
        os.killpg(jobs[1].pid, signal.SIGKILL)
        out, err = jobs[0].communicate(timeout=120)
    finally:
        for job in jobs:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
            job.communicate()
    assert jobs[0].returncode == 0, err
    assert out.count("\n") == 1
    assert re.search(r"resumed at step [\d,]+ of 400", log.read_text())
    assert '"world_size": 1' in (tmp_path / "run" / "status.json").read_text()
    assert run_job(1, "pretrain", "run.yaml", "--out", "whole", cwd=tmp_path).code == 0
    assert differing(weights(tmp_path / "run"), weights(tmp_path / "whole")) == []
