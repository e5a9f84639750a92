"""Files out: whole or not at all, and only where a file may stand."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from files_examples import SUFFIXES, copy, names_in, save

from softly._errors import InputError
from softly.files import Batch, TableWriter, atomic_write, check_output, open_scores, replacing
from softly.files.writing import _unnamed

# ---- where a file may stand


@pytest.fixture
def occupied(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    yield tmp_path
    assert (tmp_path / "file").read_text() in ("precious", "new")
    assert not [name for name in names_in(tmp_path) if name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("name", "overwrite", "complaint"),
    [
        ("file", False, "exists already; give another path, or --force"),
        ("link", False, "exists already"),
        ("dangling", False, "exists already"),
        ("folder", True, "is a directory"),
        ("pipe", True, "not a regular file"),
        ("file/inside", False, "is not a directory"),
        ("missing/inside", False, "does not exist"),
        ("x" * 300, False, "cannot be written"),
        ("a\0b", False, "cannot be written"),
    ],
)
def test_outputs_that_cannot_be(name: str, overwrite: bool, complaint: str, occupied: Path) -> None:
    for attempt in (check_output, lambda path, overwrite: atomic_write(path, "new", overwrite=overwrite)):
        if attempt is check_output and name == "x" * 300:
            continue
        with pytest.raises(InputError) as raised:
            attempt(occupied / name, overwrite=overwrite)
        assert complaint in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_device_is_never_replaced() -> None:
    with pytest.raises(InputError, match="not a regular file"):
        check_output(Path("/dev/null"), overwrite=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission"):
        check_output(tmp_path / "x", overwrite=False)


def test_a_link_stays_a_link_and_its_target_is_replaced(occupied: Path) -> None:
    atomic_write(occupied / "link", "new", overwrite=True)
    assert (occupied / "link").is_symlink()
    assert (occupied / "file").read_text() == "new"


@pytest.mark.parametrize("data", ["grüße\n", b"\x00\xff"])
def test_atomic_write_writes_text_and_bytes(data: str | bytes, tmp_path: Path) -> None:
    atomic_write(tmp_path / "x", data, overwrite=False)
    assert (tmp_path / "x").read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert names_in(tmp_path) == ["x"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~umask


def test_a_file_made_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    source, path = save(".csv", tmp_path), tmp_path / "out.csv"
    with pytest.raises(InputError, match="exists already"):
        copy(source, path, then=lambda batch: path.write_text("of another process"))
    assert path.read_text() == "of another process"
    assert names_in(tmp_path) == ["in.csv", "out.csv"]


@pytest.mark.parametrize(("suffix", "taken"), [(".csv", "p_cat"), (".parquet", "p_cat"), (".npz", "probabilities")])
def test_what_is_there_already_is_not_added(suffix: str, taken: str, tmp_path: Path) -> None:
    copy(save(suffix, tmp_path), tmp_path / f"first{suffix}")
    again = open_scores(tmp_path / f"first{suffix}", label=None if suffix == ".npz" else "label")
    with pytest.raises(InputError, match=f"'{taken}' already"):
        TableWriter(tmp_path / f"second{suffix}", again, overwrite=False)


def test_the_output_has_the_format_of_the_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"out\.parquet: .* the suffix \.csv or \.csv\.gz"):
        TableWriter(tmp_path / "out.parquet", save(".csv", tmp_path), overwrite=False)


# ---- whole or not at all


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existing", [True, False])
def test_an_exception_leaves_no_trace(suffix: str, error: type[BaseException], existing: bool, tmp_path: Path) -> None:
    source, path = save(suffix, tmp_path), tmp_path / f"out{suffix}"
    if existing:
        path.write_bytes(b"before")
    before = names_in(tmp_path)

    def fail(batch: Batch) -> None:
        if batch.start > 100:
            raise error

    with pytest.raises(error):
        copy(source, path, overwrite=True, then=fail)
    assert names_in(tmp_path) == before
    assert not existing or path.read_bytes() == b"before"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_interrupt_within_a_write_leaves_no_trace(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(suffix, tmp_path)
    before = names_in(tmp_path)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        copy(source, tmp_path / f"out{suffix}")
    assert names_in(tmp_path) == before


COPY = """
import resource, sys
from pathlib import Path
from softly._errors import InputError
from softly.files import TableWriter, open_scores

folder, limit, *suffixes = sys.argv[1:]
if limit != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
for suffix in suffixes:
    label = None if "np" in suffix else "label"
    source = open_scores(f"{folder}/in{suffix}", label=label, labels_required=label is not None)
    try:
        with TableWriter(Path(f"{folder}/out{suffix}"), source, overwrite=True) as writer:
            for batch in source.batches(with_table=True):
                writer.write(batch, batch.scores)
                if limit == "0":
                    print("written", flush=True)
                    input()
    except InputError as error:
        print(error)
"""


def start_copy(folder: Path, *suffixes: str, rows: int, limit: int) -> "subprocess.Popen[str]":
    """Copy in another process, with files of at most `limit` bytes, or (0) waiting after the first batch."""
    for suffix in suffixes:
        save(suffix, folder, rows)
        (folder / f"out{suffix}").write_bytes(b"before")
    arguments = [sys.executable, "-c", COPY, str(folder), str(limit), *suffixes]
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def test_a_full_disk_is_one_line_and_leaves_no_trace(tmp_path: Path) -> None:
    with start_copy(tmp_path, *SUFFIXES, rows=3000, limit=4096) as process:
        complaints, noise = process.communicate(timeout=60)
    reason = "cannot be written (File too large); free space or choose another place"
    assert complaints.splitlines() == [f"{tmp_path}/out{suffix}: {reason}" for suffix in SUFFIXES]
    assert noise == ""
    assert {path.read_bytes() for path in tmp_path.glob("out*")} == {b"before"}
    assert len(names_in(tmp_path)) == 2 * len(SUFFIXES)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_kill_9_leaves_no_half_written_file(suffix: str, tmp_path: Path) -> None:
    with start_copy(tmp_path, suffix, rows=500, limit=0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / f"out{suffix}").read_bytes() == b"before"
    left = set(names_in(tmp_path)) - {f"in{suffix}", f"out{suffix}"}
    if _unnamed(tmp_path) is None:  # a file system without files that have no name
        assert all(name.startswith(f".out{suffix}.") and name.endswith(".tmp") for name in left)
    else:
        assert left == set()


def test_without_unnamed_files_all_goes_by_a_temporary_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softly.files.writing._unnamed", lambda directory: None)
    atomic_write(tmp_path / "a.txt", "one", overwrite=False)
    assert names_in(tmp_path) == ["a.txt"]
    interrupted = replacing(tmp_path / "a.txt", overwrite=True)
    interrupted.__enter__().write(b"two")
    (name,) = set(names_in(tmp_path)) - {"a.txt"}
    assert name.endswith(".tmp")
    assert not interrupted.__exit__(RuntimeError, RuntimeError(), None)
    assert (names_in(tmp_path), (tmp_path / "a.txt").read_text()) == (["a.txt"], "one")


def test_control_c_leaves_no_trace(tmp_path: Path) -> None:
    with start_copy(tmp_path, ".csv", rows=500, limit=0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1].endswith("KeyboardInterrupt\n")
    assert (tmp_path / "out.csv").read_bytes() == b"before"
    assert names_in(tmp_path) == ["in.csv", "out.csv"]
