"""`ptft`, `torchrun` and its ranks for scripts that start them often: forked from a process that has imported all once.

`python quick.py serve SOCKET` answers; `python quick.py call SOCKET PROGRAM ARGUMENT…` is the command: it hands over
its arguments, folder, environment and streams, passes signals on, and ends as the program does, which dies with it.
"""

import array
import contextlib
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_SECONDS_BETWEEN_LOOKS = 0.02
_RANK = ("-u", "-m", "ptft")
"""What torchrun calls a Python with, before the arguments of ptft."""

MODULES = (
    "ptft.cli",
    "ptft.run.session",
    "ptft.run.training",
    "ptft.augment.pipelines",
    "ptft.objectives.supervised",
    "torch.distributed.run",
    "torch.utils.tensorboard",
    "torch._dynamo",  # of DistributedDataParallel: more than a second, for each rank anew
    "torch.distributed.fsdp",
    "scipy.optimize",
    "jinja2",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_svg",
    "PIL.ImageOps",
)
"""What a run imports at some time: the most of the work of a short one, if each did so by itself."""


def serve(path: str) -> None:
    """Forks a program for every call, until it is killed."""
    for module in MODULES:
        importlib.import_module(module)

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    calls: dict[int, socket.socket] = {}
    looks = selectors.DefaultSelector()
    looks.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in looks.select(_SECONDS_BETWEEN_LOOKS):
            if key.fileobj is listener:
                call, _ = listener.accept()
                calls[_fork(call)] = call
                looks.register(call, selectors.EVENT_READ)
            else:  # the caller is gone
                looks.unregister(key.fileobj)
                gone = [pid for pid, call in calls.items() if call is key.fileobj]
                for pid in gone:
                    os.kill(pid, signal.SIGKILL)
        for pid in list(calls):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                call = calls.pop(pid)
                with contextlib.suppress(OSError, KeyError, ValueError):
                    looks.unregister(call)
                with contextlib.suppress(OSError):
                    call.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
                call.close()


def _fork(call: socket.socket) -> int:
    size = array.array("I", call.recv(4, socket.MSG_WAITALL))[0]
    streams = socket.recv_fds(call, 1, 3)[1]
    told = json.loads(call.recv(size, socket.MSG_WAITALL))
    pid = os.fork()
    if pid:
        for stream in streams:
            os.close(stream)
        call.sendall(b"%d\n" % pid)
        return pid
    code = 1
    try:
        _run(streams, told)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _run(streams: list[int], told: dict[str, Any]) -> None:
    import torch
    import torch.distributed.run

    import ptft.cli
    import ptft.run.conclusion

    ptft.run.conclusion._write_page = lambda *_: None  # it takes longer than the training, and nobody looks at it
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    os.closerange(3, 256)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["environment"])
    program, *arguments = told["command"]
    sys.argv = [program, *(arguments[len(_RANK) :] if program == "rank" else arguments)]
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    (torch.distributed.run.main if program == "torchrun" else ptft.cli.main)()


def call(path: str, command: list[str]) -> int:
    """The command."""
    pid, early = 0, 0

    def pass_on(signum: int, _: FrameType | None) -> None:
        nonlocal early
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        early = signum

    for number in _SIGNALS:
        signal.signal(number, pass_on)
    told = {"command": command, "folder": str(os.getcwd()), "environment": dict(os.environ)}  # noqa: PTH109
    content = json.dumps(told).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        server.sendall(array.array("I", [len(content)]).tobytes())
        socket.send_fds(server, [b"."], [0, 1, 2])
        server.sendall(content)
        with server.makefile() as answers:
            pid = int(answers.readline())
            if early:
                os.kill(pid, early)
            code = int(answers.readline())
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(call(sys.argv[2], sys.argv[3:]))
