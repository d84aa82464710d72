"""Python processes that have torch, transformers and DeepSpeed imported when they start: forks of one that has, in a
tenth of a second instead of eight. For tests of what several processes do, not of how an interpreter starts."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

context: Any = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        "vistune.cli",
        "vistune.tune.work",
        "vistune.tune.launch",
        "vistune.evaluate.lm",
        "vistune.evaluate.stage",
        "torch._dynamo",
        "deepspeed",
        "mlflow",
        "mlflow.store.tracking.sqlalchemy_store",
    ]
)

Cold = subprocess.Popen


class Popen(Cold):
    """Takes the place of `subprocess.Popen`: here, and in every process that it has started, a command that begins
    with `sys.executable` is a fork. The forks of a fork are its children, as the processes would be."""

    process: Any = None

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *more) -> None:  # type: ignore[no-untyped-def]
        if isinstance(args, str | bytes) or os.fspath(args[0]) != sys.executable or preexec_fn or pass_fds:
            super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *more)
            return
        pipes, session = more[3:9], more[-2]  # as CPython 3.11 calls it: read and write ends of stdin, stdout, stderr
        ends = [pipes[0], pipes[3], pipes[5]]
        streams = [Connection(os.dup(n if end == -1 else end)) for n, end in enumerate(ends)]
        arguments = [os.fspath(argument) for argument in args[1:]]
        environment = dict(os.environ if env is None else env)
        folder = os.fspath(cwd or os.getcwd())
        self.process = context.Process(target=_run, args=(arguments, environment, folder, session, streams))
        self.process.start()
        self.pid, self._child_created = self.process.pid, True
        for stream in streams:
            stream.close()
        self._close_pipe_fds(*pipes)

    def _internal_poll(self, *given: Any, **named: Any) -> int | None:
        if self.process is None:
            return super()._internal_poll(*given, **named)
        if self.returncode is None:
            self.returncode = self.process.exitcode
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.process is None:
            return super()._wait(timeout)
        self.process.join(timeout)
        if self._internal_poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self.returncode


def _run(
    arguments: list[str], environment: Mapping[str, str], folder: str, session: bool, streams: list[Connection]
) -> None:
    """In the fork: what the interpreter does with its arguments."""
    global context
    context = multiprocessing.get_context("fork")
    subprocess.Popen = Popen  # type: ignore[misc]
    if session:
        os.setsid()
    for n, stream in enumerate(streams):
        os.dup2(stream.fileno(), n)
        stream.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.exit(_status(arguments[1:] if arguments[0] == "-u" else arguments))


def _status(arguments: list[str]) -> Any:
    """That of the interpreter's exit. What an error's frames held is gone by then, as at the end of an interpreter."""
    first, *rest = arguments
    try:
        if first == "-c":
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        elif first == "-m":
            sys.argv = list(rest)
            sys.modules.pop(rest[0], None)  # it is imported, and is to be run as the main module now
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [first, *rest]
            sys.path.insert(0, os.path.dirname(os.path.abspath(first)))
            runpy.run_path(first, run_name="__main__")
    except SystemExit as end:
        return end.code
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
