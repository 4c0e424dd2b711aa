"""Signals that ask to stop, at random instants of a run's whole life: saved and resumable, or nothing has begun."""

import os
import signal
import subprocess
import sys
import time

import pytest
from faults.scene import Scene, make_scene, one_sentence, seeded, tell
from making import Result

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("signals"))


def signal_faults(scene: Scene, out: str, signum: int, result: Result) -> list[str]:
    """What is wrong with the end of a run that got a signal, and with going on."""
    begun = (scene.path / out / "config.yaml").exists()
    if result.code == 0:
        faults = scene.differences(out)  # the signal came after the last look at it
    elif begun:
        name = signal.Signals(signum).name
        said = one_sentence(result, 128 + signum, f"stopped by {name}", f"--resume goes on with the run in {out}")
        faults = [] if said else [f"exit code {result.code}: {result.err}"]
    else:
        faults = [] if result.code in (128 + signum, -signum) else [f"exit code {result.code}: {result.err}"]
    return faults + scene.unequal_end(out)


def percentile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


def test_a_signal_at_a_random_instant_leaves_a_run_that_goes_on(scene: Scene, trials: int) -> None:
    random, failures, waits, stopped = seeded("signals"), [], [], 0
    began = time.monotonic()
    assert scene.run("timed").code == 0
    life = time.monotonic() - began
    for trial in range(trials):
        out, signum = f"stopped-{trial}", _SIGNALS[trial % len(_SIGNALS)]
        running = scene.start(out)
        if trial % 5:  # four of five in training, evaluation and saving; the others anywhere in the life
            while running.is_alive() and not (scene.path / out / "metrics.jsonl").exists():
                time.sleep(0.001)
        running.process.join(random.uniform(0, life / 3 if trial % 5 else life))
        running.send(signum)
        sent = time.monotonic()
        running.process.join(random.uniform(0, 0.01))
        running.send(signum)  # a second one changes nothing
        result = running.wait()
        waits.append(time.monotonic() - sent)
        stopped += result.code == 128 + signum
        if found := signal_faults(scene, out, signum, result):
            failures.append((trial, found))
    step = scene.summary("timed")["seconds"] / scene.summary("timed")["steps"]
    note = f"({stopped} stopped; to exit p95 {percentile(waits, 0.95):.2f} s, a step and its saving {step:.3f} s)"
    tell("SIGTERM, SIGINT, SIGUSR1 or SIGHUP at a random instant, saved and resumable", failures, trials, note)


def test_a_signal_while_ptft_is_starting_leaves_a_run_that_goes_on(scene: Scene, trials: int) -> None:
    random, failures, total = seeded("starting"), [], max(len(_SIGNALS), trials // 8)
    for trial in range(total):
        out, signum = f"starting-{trial}", _SIGNALS[trial % len(_SIGNALS)]
        command = [sys.executable, "-m", "ptft", "pretrain", "run.yaml", "--resume", "--out", out]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command, cwd=scene.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(random.uniform(0.2, 3))
        process.send_signal(signum)
        out_text, err = process.communicate(timeout=120)
        if found := signal_faults(scene, out, signum, Result(process.returncode, out_text, err)):
            failures.append((trial, found))
    tell("the same while Python and torch are being imported", failures, total)


def deafen() -> None:
    """Breaks the flag: a signal during the run ends the process there and then."""
    import ptft.stop

    ptft.stop.Stop._receive = lambda stop, signum, frame: os._exit(128 + signum)  # type: ignore[method-assign]


def test_control_a_run_that_does_not_save_when_stopped_is_noticed(scene: Scene) -> None:
    running = scene.start("unsaved", before=deafen)
    while running.is_alive() and not list((scene.path / "unsaved" / "checkpoints").glob("step-*2.pt")):
        time.sleep(0.001)
    running.send(signal.SIGTERM)
    assert signal_faults(scene, "unsaved", signal.SIGTERM, running.wait())


@pytest.mark.parametrize(("before", "code"), [("SIG_DFL", 129), ("SIG_IGN", 0)])
def test_a_lost_terminal_stops_a_command_but_under_nohup(before: str, code: int) -> None:
    begun = f"import os, signal; signal.signal(signal.SIGHUP, signal.{before})"
    hang_up = "from ptft.stop import end_on_signals; end_on_signals(); os.kill(os.getpid(), signal.SIGHUP)"
    ended = subprocess.run([sys.executable, "-c", f"{begun}; {hang_up}"], stderr=subprocess.PIPE)
    assert ended.returncode == code
    assert (b"stopped by SIGHUP" in ended.stderr) == bool(code)
