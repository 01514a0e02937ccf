"""What the long experiments share: each result is stored as it comes, and a file is never half."""

import json
from pathlib import Path

import pytest

from experiments.runs import Runs, go_on, progress, rounded, write


def test_what_is_missing_is_run_and_stored_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, sizes = tmp_path / "data" / "results.json", []

    def store(runs: Runs) -> None:
        write(path, {"version": 1}, runs)
        sizes.append(len(json.loads(path.read_text("utf-8"))["runs"]))

    monkeypatch.setattr("sys.argv", ["experiment", "--jobs", "1"])
    go_on("An experiment.", rounded, [({"x": 1 / 3},), ({"x": 2 / 3},)], [{"x": 0.5}], store)
    assert sizes == [2, 3]
    told = capsys.readouterr()
    assert told.out == "\n3 runs are stored\n" and "3/3 runs, 0 min left" in told.err
    assert path.read_text("utf-8") == (
        '{"version":1,"runs":[\n{"x":0.5},\n{"x":0.3333},\n{"x":0.6667}]}\n'
    )
    assert [*path.parent.iterdir()] == [path]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write(path, {}, [])
    with pytest.raises(TypeError):
        write(path, {}, [{"x": object()}])
    assert json.loads(path.read_text("utf-8")) == {"runs": []}


def test_the_time_left_is_that_of_the_runs_that_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 700.0)
    assert progress(5, 10, 100.0, 2) == f"\r[{'#' * 15:<30}] 5/10 runs, 25 min left "
