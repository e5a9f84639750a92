"""How the command line starts and ends: imports, help, exit statuses, pipes, interrupts."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import click
import numpy as np
import pytest

import softly
from softly.calibration.kinds import KINDS
from softly.cli import commands, main

PYTHON = [sys.executable, "-c"]
LIBRARIES = ("numpy", "pyarrow", "rich", "jinja2")


def imported_after(*arguments):
    """The libraries that a run of the command line has imported."""
    script = f"import sys; from softly.cli import main; main({list(arguments)!r}); "
    script += f"print('imported', *(m for m in {LIBRARIES!r} if m in sys.modules))"
    done = subprocess.run([*PYTHON, script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["calibrate", "--help"], ["nonsense"]])
def test_starting_imports_no_library(arguments):
    assert imported_after(*arguments) == set()


def test_the_proof_about_imports_can_fail():
    assert imported_after("probabilities", "1") == {"numpy", "rich"}


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_starts_within_100_ms_of_bare_python(option):
    def seconds(*command):
        def once():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        return min(once() for _ in range(7))

    assert seconds(sys.executable, "-m", "softly", option) - seconds(sys.executable, "-c", "pass") < 0.1


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"softly {softly.__version__}\n"
    assert main([]) == 0
    shown = capsys.readouterr().out
    positions = [
        shown.index(f"\n  {name} ") for name in ("probabilities", "demo", "calibrate", "apply", "evaluate", "doctor")
    ]
    assert positions == sorted(positions)
    assert "..." not in shown.split("Commands:")[1]  # no summary is cut


@pytest.mark.parametrize("name", sorted(commands.softly.commands))
def test_every_command_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    for parameter in commands.softly.commands[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.opts[-1] in shown


def test_kinds_are_those_of_the_library():
    assert commands.KINDS == KINDS


def test_names_may_hold_commas():
    assert commands._names(None, None, 'a, "b, c",d') == ("a", "b, c", "d")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "softly: No such command 'nonsense'"),
        (["calibrate"], "softly: Missing argument 'SCORES'; see softly calibrate --help"),
        (["calibrate", "x.csv"], "softly: Missing option '--out'; see softly calibrate --help"),
        (["calibrate", "x.csv", "--out", "o", "--folds", "two"], "softly: Invalid value for '--folds': 'two'"),
        (["evaluate", "x.csv", "--kind", "odds"], "softly: Invalid value for '--kind': 'odds' is not one of 'logits'"),
        (["doctor", "--wrong"], "softly: No such option"),
        (["evaluate", "a\x1b[31m\nb.csv"], "softly: a\\x1b[31m"),
    ],
)
def test_usage_errors_are_one_line(arguments, said, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert err.count("\n") == 1


@pytest.mark.parametrize(("library", "ours"), [("click", "commands"), ("rich.console", "screen")])
def test_missing_libraries_say_what_to_install(library, ours, monkeypatch, capsys):
    for module in ("commands", "probabilities", ours):
        monkeypatch.delitem(sys.modules, f"softly.cli.{module}", raising=False)
        monkeypatch.delattr(softly.cli, module, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["probabilities", "1"]) == 2
    assert capsys.readouterr() == ("", "softly: the command line needs: pip install 'softly[cli]'\n")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "softly: interrupted\n"),
        (PermissionError(13, "Permission denied", "/there/x"), 2, "softly: /there/x: Permission denied\n"),
        (OSError(28, "No space left on device"), 2, "softly: No space left on device\n"),
        (MemoryError(), 2, "softly: not enough memory\n"),
        (softly.InputError("two\nlines"), 2, "softly: two lines\n"),
        (ImportError("no such target"), 2, "softly: no such target\n"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_how_errors_end(error, status, said, monkeypatch, capsys):
    def fail():
        raise error

    monkeypatch.setattr("softly.cli.doctor.examine", fail)
    assert main(["doctor"]) == status
    assert capsys.readouterr() == ("", said)


def test_a_bug_is_not_hidden(monkeypatch):
    monkeypatch.setattr("softly.cli.doctor.examine", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_shells_may_complete(monkeypatch, capsys):
    monkeypatch.setenv("_SOFTLY_COMPLETE", "bash_source")
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 0
    assert "_SOFTLY_COMPLETE=bash_complete" in capsys.readouterr().out


def test_a_real_interrupt_ends_with_130():
    script = "import sys; from softly.cli import main; print('ready', flush=True); sys.exit(main(['probabilities']))"
    with subprocess.Popen(
        [*PYTHON, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == b"softly: interrupted\n"


def test_a_reader_that_leaves_is_no_error():
    command = [sys.executable, "-m", "softly", "probabilities", *map(str, range(300))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_behind_standard_output_is_an_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "softly", "--help"], stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, b"softly: No space left on device\n")


def test_doctor_says_what_there_is(capsys):
    assert main(["doctor", "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert state["softly"] == softly.__version__
    assert state["packages"]["numpy"]
    assert state["agreement"] is (True if state["core"]["compiled_core"] else None)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "compiled core" in shown
    assert "pyarrow" in shown


@pytest.mark.parametrize(
    ("target", "status", "said"),
    [("none", 0, "switched off by SOFTLY_TARGET=none; the array expressions run"), ("mmx", 1, "SOFTLY_TARGET=mmx")],
)
def test_doctor_without_the_core(target, status, said):
    environment = {**os.environ, "SOFTLY_TARGET": target}
    done = subprocess.run([sys.executable, "-m", "softly", "doctor"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, "")
    assert said in " ".join(done.stdout.split())


def test_doctor_notices_a_core_that_is_wrong(monkeypatch, capsys):
    from softly import _kernels

    if _kernels.core is None:
        pytest.skip("no compiled core")
    key = "softmax", "cpu", np.dtype(np.float32)
    kernel = _kernels.TABLE[key]
    monkeypatch.setitem(_kernels.TABLE, key, lambda *a: kernel(*a) * 1.001)
    assert main(["doctor"]) == 1
    assert "its results are WRONG" in " ".join(capsys.readouterr().out.split())
