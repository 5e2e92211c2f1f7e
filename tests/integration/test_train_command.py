"""``python -m paramserver.train``, as users type it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramserver import train as command

ROOT = Path(__file__).resolve().parents[2]


def train(
    *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "paramserver.train", *arguments]
    return subprocess.run(
        words,
        cwd=cwd or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def summary(*arguments: str, **where: Any) -> dict[str, Any]:
    keep = () if {"--out", "--resume"} & set(arguments) else ("--no-out",)
    done = train("--json", "--no-baseline", *keep, *arguments, **where)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# --- what it does ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["avg", "async"])
def test_with_nothing_but_a_mode_it_learns_the_digits_and_keeps_the_run(
    mode: str, tmp_path: Path
) -> None:
    done = train("--mode", mode, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == f"paramserver 0.1.0: training on 'digits', --mode {mode}"
    found = json.loads(lines[-1])
    assert found["mode"] == mode
    assert found["test_score"] > 0.95
    assert found["metric"] == "accuracy"
    assert (found["n_examples"], found["n_features"], found["n_parameters"]) == (1438, 64, 650)
    assert found["epochs"] == pytest.approx(20)
    assert len(found["weights_sha256"]) == 64
    if mode == "async":
        assert sum(found["staleness"]["histogram"].values()) == found["updates"]
    else:
        assert (found["rounds"], found["updates"], found["staleness"]) == (20, None, None)
    assert found["baseline"]["name"].startswith("SGDClassifier")
    assert "compared   with one scikit-learn process: SGDClassifier" in done.stdout
    assert ("SLOWER" in done.stdout) == (found["speedup"] is not None and found["speedup"] < 1)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith(f"-{mode}")
    assert json.loads((folder / "summary.json").read_text()) == found
    assert {path.name for path in folder.iterdir()} >= {
        "config.toml", "events.jsonl", "history.csv", "model.json", "model.safetensors"
    }  # fmt: skip


def test_a_run_is_repeated_to_the_bit_from_its_own_settings(tmp_path: Path) -> None:
    first = summary(
        *("--mode", "avg", "--data", "iris", "--rounds", "3", "--partitions", "3", "--seed", "7"),
        *("--local-steps", "5", "--out", "one"),
        cwd=tmp_path,
    )
    again = summary("--config", "one/config.toml", "--out", "two", "--workers", "1", cwd=tmp_path)
    assert again["weights_sha256"] == first["weights_sha256"]
    one, two = ((tmp_path / name / "config.toml").read_text() for name in ("one", "two"))
    differ = set(one.splitlines()) ^ set(two.splitlines())
    assert {line for line in differ if not line.startswith("#")} == {"workers = 2", "workers = 1"}
    other = summary("--config", "one/config.toml", "--no-out", "--seed", "8", cwd=tmp_path)
    assert other["weights_sha256"] != first["weights_sha256"]


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('mode = "avg"\ndata = "wine"\nrounds = 2\nbatch-size = 9\n')
    found = summary(
        *("--config", "mine.toml", "--rounds", "4", "--out", "run"),
        cwd=tmp_path,
        env={"PARAMSERVER_ROUNDS": "3", "PARAMSERVER_DATA": "iris"},
    )
    assert (found["rounds"], found["n_examples"]) == (4, 120)
    assert "batch_size = 9\n" in (tmp_path / "run" / "config.toml").read_text()


def test_a_quiet_run_prints_the_summary_alone() -> None:
    quick = ("--mode", "avg", "--data", "iris", "--rounds", "2", "--no-baseline", "--no-out")
    done = train(*quick, "--quiet", "--json")
    assert len(done.stdout.splitlines()) == 1
    assert train(*quick, "--quiet").stdout == ""


def test_a_table_of_the_users_own_is_trained_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3))
    kinds = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
    lines = [",".join([*map(str, row), kind]) for row, kind in zip(X, kinds, strict=True)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["a,b,c,answer", *lines]))
    for model in ("hinge", "mlp"):
        out = tmp_path / model
        found = summary("--mode", "avg", "--data", str(path), "--model", model, "--out", str(out))
        assert found["test_score"] > 0.9, model
        meaning = json.loads((out / "model.json").read_text())
        assert (meaning["classes"], meaning["n_features"]) == (["no", "yes"], 3)


def test_training_ends_when_the_score_is_reached() -> None:
    found = summary("--mode", "async", "--epochs", "100000", "--target-score", "0.9")
    assert found["epochs"] < 100000
    assert found["test_score"] >= 0.85


def test_the_door_to_all_commands_trains_too() -> None:
    words = [sys.executable, "-m", "paramserver.cli", "train", "--mode", "avg", "--rounds", "x"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 77
    assert "Usage: paramserver train" in done.stderr


# --- what it refuses ------------------------------------------------------------------------------


@pytest.fixture
def complain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Run the command in this process, in an empty folder: what is refused starts nothing."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["train", "--no-baseline", *arguments])
        code = command.main()
        said = " ".join(capsys.readouterr().err.split())
        assert "Traceback" not in said
        return code, said

    return run


AVG = ("--mode", "avg")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 77, "--mode"),
        (("--mode", "both"), 77, "both"),
        ((*AVG, "--worker", "3"), 77, "--worker"),
        ((*AVG, "--data", "mnsit"), 77, "There are: breast-cancer"),
        ((*AVG, "--data", "nowhere.csv"), 1, "no file nowhere.csv"),
        ((*AVG, "--model", "forest"), 77, "There are: softmax"),
        ((*AVG, "--model", "ridge"), 77, "does not fit the labels, which are 10 classes"),
        ((*AVG, "--rounds", "0"), 77, "rounds must be 1 or more"),
        (("--mode", "async", "--epochs", "0"), 77, "epochs must be 1 or more"),
        ((*AVG, "--rounds", "many"), 77, "--rounds"),
        ((*AVG, "--lr", "-1"), 77, "learning rate"),
        ((*AVG, "--lr", "nan"), 77, "learning rate"),
        ((*AVG, "--workers", "0"), 77, "--workers must be 1 or more"),
        ((*AVG, "--partitions", "5000"), 77, "cannot be cut into 5000 partitions"),
        ((*AVG, "--batch-size", "0"), 77, "batch_size"),
        ((*AVG, "--label", "x"), 77, "--label goes with a file"),
        ((*AVG, "--epochs", "3"), 77, "--epochs goes with --mode async"),
        ((*AVG, "--l2", "-1"), 77, "--l2 must be 0 or more"),
        (("--mode", "async", "--optimizer", "sdg"), 77, "adagrad, adam"),
        (("--mode", "async", "--staleness-bound", "-1"), 77, "--staleness-bound"),
        ((*AVG, "--address", "tcp://127.0.0.1:0"), 77, "--keys is missing"),
        ((*AVG, "--config", "none.toml"), 77, "none.toml cannot be read"),
        (("--resume", "nowhere"), 77, "nowhere is not the folder of a run"),
        ((*AVG, "--out", "/proc/here"), 77, "The run cannot be kept in /proc/here"),
    ],
)
def test_what_cannot_be_is_one_paragraph_and_an_exit_code(
    complain: Any, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    found, said = complain(*arguments)
    assert words in said
    assert found == code
    assert list(tmp_path.iterdir()) == []


def test_a_setting_in_a_file_that_is_misspelt_is_answered_with_the_right_one(
    complain: Any, tmp_path: Path
) -> None:
    (tmp_path / "my.toml").write_text('mode = "avg"\nlocal_step = 3\n')
    code, said = complain("--config", "my.toml")
    assert (code, said) == (
        77,
        "paramserver: my.toml: there is no setting 'local_step'. Did you mean 'local_steps'?",
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b,kind\n1,2,x\n1,oops,y\n", "line 3, column 2"),
        ("a,b,kind\n" + "1,2,x\n" * 6, "All rows of data.csv have the label 'x'"),
        ("a,b,kind\n1,2,x\n1,nan,y\n" + "1,2,x\n" * 6, "has nan in feature 2"),
        ("a,b,kind\n", "holds no rows"),
        ("a,b,kind\n1,2,x\n", "at least 5 are needed"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named_with_the_place(
    complain: Any, tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "data.csv").write_text(content)
    code, said = complain("--mode", "avg", "--data", "data.csv")
    assert words in said
    assert code == 1


def test_a_folder_that_is_not_free_is_left_as_it_is(complain: Any, tmp_path: Path) -> None:
    for name, file, words in (
        ("mine", "letter.txt", "mine is not empty"),
        ("run", "config.toml", "run holds a run already"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("mode = 'avg'")
        code, said = complain("--mode", "avg", "--out", name)
        assert code == 77
        assert words in said
        assert [p.name for p in (tmp_path / name).iterdir()] == [file]


def test_settings_of_a_resumed_run_cannot_change(complain: Any, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('mode = "avg"\n')
    code, said = complain("--resume", ".", "--seed", "3")
    assert code == 77
    assert "--seed cannot change while a run is resumed" in said
    code, said = complain("--resume", ".", "--config", "config.toml")
    assert code == 77
    assert "leave --config out" in said


def test_a_learning_rate_that_is_too_large_ends_the_run_in_words(tmp_path: Path) -> None:
    done = train(*("--mode", "avg", "--lr", "1e30", "--rounds", "50", "--out", "run"), cwd=tmp_path)
    assert done.returncode == 1
    assert "learning rate is too large" in done.stderr
    assert "Traceback" not in done.stderr
    last = json.loads((tmp_path / "run/events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["outcome"]) == ("RunEnded", "failed")
    assert "learning rate is too large" in last["reason"]
