"""The command ``birnn-decode``, as a program of its own and, where many are called, without starting one each time."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from unittest import mock

from birnn_decode.cli import main


def command_line(*arguments):
    return [sys.executable, "-W", "error", "-m", "birnn_decode.cli", *map(str, arguments)]


def heed_interrupts():
    """For a child to call: where the tests run in the background, SIGINT is ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(*arguments, folder=None):
    return subprocess.run(command_line(*arguments), capture_output=True, text=True, check=False, cwd=folder)


def run_here(*arguments, folder=None):
    """The same in this process."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        if folder is not None:
            stack.callback(os.chdir, os.getcwd())
            os.chdir(folder)
        stack.enter_context(mock.patch.object(sys, "argv", ["birnn-decode", *map(str, arguments)]))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(errors))
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())


def output_of(*arguments, folder=None, runner=run):
    done = runner(*arguments, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refusal_of(*arguments, folder=None, runner=run):
    """The one line that the command refuses with."""
    done = runner(*arguments, folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("birnn-decode: ")
    return line
