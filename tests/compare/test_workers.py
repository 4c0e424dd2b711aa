"""Worker processes: errors come back as they were, and none is left behind."""

import signal
import threading
import time
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import pytest

from ptft.checkpoint import read
from ptft.compare.workers import Job, Workers
from ptft.errors import CheckpointError, OutOfMemoryError, StoppedError


def run(*jobs: Job) -> list[int]:
    done: list[int] = []
    with Workers(1, lambda: None) as workers:
        workers.run(jobs, done.append)
    return done


def test_jobs_are_done_in_other_processes_and_their_errors_keep_kind_and_sentence(tmp_path: Path) -> None:
    with Workers(2, lambda: None) as workers:
        done: list[int] = []
        workers.run([partial(Path.touch, tmp_path / name) for name in "abc"], done.append)
        assert sorted(done) == [0, 1, 2]
        assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}
        with pytest.raises(CheckpointError, match=r"nowhere.pt: no such checkpoint file"):
            workers.run([partial(read, Path("nowhere.pt"))], done.append)
        with pytest.raises(RuntimeError, match="ValueError: invalid literal"):
            workers.run([partial(int, "x")], done.append)


def test_a_killed_worker_is_taken_for_want_of_memory() -> None:
    with pytest.raises(OutOfMemoryError, match=r"compare\.jobs"):
        run(partial(signal.raise_signal, signal.SIGKILL))


def test_a_worker_killed_before_it_reads_its_job_is_one_too() -> None:
    def kill_first() -> None:
        while not (found := active_children()):
            time.sleep(0.001)
        found[0].kill()

    killer = threading.Thread(target=kill_first)
    killer.start()
    with pytest.raises(OutOfMemoryError, match=r"compare\.jobs"):
        run(partial(time.sleep, 60))
    killer.join()


def test_a_worker_that_a_signal_has_ended_is_a_stop_and_no_bug() -> None:
    with pytest.raises(StoppedError, match=r"stopped by SIGTERM\.") as caught:
        run(partial(signal.raise_signal, signal.SIGTERM))
    assert caught.value.exit_code == 143


def test_a_stop_ends_a_worker_at_work() -> None:
    def check_stop() -> None:
        if time.monotonic() > stopped_at:
            raise StoppedError(signal.SIGTERM)

    stopped_at = time.monotonic() + 0.5
    with pytest.raises(StoppedError), Workers(1, check_stop) as workers:
        workers.run([partial(time.sleep, 600)], lambda _: None)
    assert time.monotonic() < stopped_at + 120
    assert active_children() == []
