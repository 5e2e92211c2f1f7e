"""``python -m paramserver.train``, as users type it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from paramserver import train as command
from paramserver.commands import prepare
from paramserver.data import readers
from paramserver.models.kernels import choice
from paramserver.runtime.cores import n_cores
from paramserver.transport.security import make_keys
from tests.integration.scripts import until

ROOT = Path(__file__).resolve().parents[2]


class Command:
    """The command in this process, which has imported everything already."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run it; return exit code, standard output and standard error."""
        self._monkeypatch.setattr(sys, "argv", ["train", *arguments])
        code = command.main()
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    def summary(self, *arguments: str) -> dict[str, Any]:
        """Run it to a good end; return its figures."""
        keep = () if {"--out", "--resume"} & set(arguments) else ("--no-out",)
        code, out, err = self("--json", "--no-baseline", *keep, *arguments)
        assert (code, err) == (0, "")
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def complaint(self, *arguments: str) -> tuple[int, str]:
        """Run it; return the exit code and the paragraph on standard error."""
        code, _, err = self("--no-baseline", *arguments)
        return code, " ".join(err.split())


@pytest.fixture
def train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


class Training:
    """A training on its way, in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        words = [sys.executable, "-m", "paramserver.train", *arguments]
        self.popen = subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_checkpoint(self, after: int = 0) -> int:
        """Wait until there is one with a number above `after`; return it."""

        def newest() -> int:
            assert self.popen.poll() is None, self.popen.communicate()
            return max(
                (int(path.stem) for path in self.folder.glob("run/*/*.checkpoint")), default=0
            )

        until(lambda: newest() > after, "a checkpoint is written")
        return newest()

    def end_by(self, number: signal.Signals) -> str:
        """Send a signal; return what was said on standard error."""
        workers = psutil.Process(self.popen.pid).children(recursive=True)
        self.popen.send_signal(number)
        _, said = self.popen.communicate(timeout=60)
        psutil.wait_procs(workers, timeout=20)
        assert [worker for worker in workers if worker.is_running()] == []
        return said


# --- what it does ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["avg", "async"])
def test_with_nothing_but_a_mode_it_learns_the_digits_and_keeps_the_run(
    mode: str, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "paramserver.train", "--mode", mode, "--json"]
    done = subprocess.run(
        words,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
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
    assert "compared   with one scikit-learn process" in done.stdout
    assert ("SLOWER" in done.stdout) == (found["speedup"] is not None and found["speedup"] < 1)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith(f"-{mode}")
    assert json.loads((folder / "summary.json").read_text()) == found
    assert {path.name for path in folder.iterdir()} >= {
        "config.toml", "events.jsonl", "history.csv", "model.json", "model.safetensors",
        "report.html", "summary.json", "timeline.csv",
    }  # fmt: skip


def test_the_link_of_the_dashboard_is_printed_and_not_kept(train: Command, tmp_path: Path) -> None:
    start = ("--mode", "avg", "--data", "iris", "--workers", "1", "--out", "run")
    code, out, err = train(*start, "--dashboard", "--no-baseline")
    assert (code, err) == (0, "")
    assert re.search(r"^  dashboard  http://127\.0\.0\.1:\d+/\?token=\S{32}$", out, re.M)
    assert "dashboard" not in (tmp_path / "run/config.toml").read_text()
    code, out, err = train("--mode", "avg", "--resume", "run", "--rounds", "21", "--dashboard")
    assert (code, err) == (0, "")
    assert "  dashboard  http://" in out


def traces(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """What is the same for two runs of the same settings, whoever and how many computed it."""
    depends = ("n_workers", "workers_lost", "rejected")  # and all times
    told = {
        name: each
        for name, each in summary.items()
        if name not in depends and not name.endswith("_s")
    }
    weights = load_file(folder / "model.safetensors")
    config = (folder / "config.toml").read_text()
    return {
        **told,
        "weights": {name: list(map(float.hex, w.ravel().tolist())) for name, w in weights.items()},
        "settings": [line for line in config.splitlines() if line[:1] not in ("#", "")],
    }


def test_a_run_is_repeated_to_the_bit_from_its_own_settings(train: Command, tmp_path: Path) -> None:
    first = train.summary(
        *("--mode", "avg", "--data", "iris", "--rounds", "3", "--partitions", "3", "--seed", "7"),
        *("--local-steps", "5", "--workers", "2", "--out", "one"),
    )
    again = train.summary("--config", "one/config.toml", "--out", "two", "--workers", "1")
    one, two = traces(tmp_path / "one", first), traces(tmp_path / "two", again)
    one["settings"][one["settings"].index("workers = 2")] = "workers = 1"
    assert one == two, (first, again)  # who had been lost, say
    other = train.summary("--config", "one/config.toml", "--seed", "8")
    assert other["weights_sha256"] != first["weights_sha256"]


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text('mode = "avg"\ndata = "wine"\nrounds = 2\nbatch-size = 9\n')
    monkeypatch.setenv("PARAMSERVER_ROUNDS", "3")
    monkeypatch.setenv("PARAMSERVER_DATA", "iris")
    found = train.summary("--config", "mine.toml", "--rounds", "4", "--out", "run")
    assert (found["rounds"], found["n_examples"]) == (4, 120)
    assert "batch_size = 9\n" in (tmp_path / "run" / "config.toml").read_text()


def test_a_quiet_run_prints_the_summary_alone(train: Command) -> None:
    quick = ("--mode", "avg", "--data", "iris", "--rounds", "2", "--no-baseline", "--no-out")
    code, out, err = train(*quick, "--quiet", "--json")
    assert (code, len(out.splitlines()), err) == (0, 1, "")
    assert train(*quick, "--quiet") == (0, "", "")


def test_a_table_of_the_users_own_is_trained_on(train: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3))
    kinds = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
    lines = [",".join([*map(str, row), kind]) for row, kind in zip(X, kinds, strict=True)]
    (tmp_path / "mine.csv").write_text("\n".join(["a,b,c,answer", *lines]))
    for model in ("softmax", "logistic", "hinge", "mlp"):
        found = train.summary(
            "--mode", "avg", "--data", "mine.csv", "--model", model, "--out", model
        )
        assert found["test_score"] > 0.9, model
        meaning = json.loads((tmp_path / model / "model.json").read_text())
        assert (meaning["classes"], meaning["n_features"]) == (["no", "yes"], 3)


def test_a_large_file_is_read_by_the_workers(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 1000)
    X = rng.standard_normal((1000, 2)) + 4 * y[:, None]
    lines = [f"{a},{b},{kind}" for (a, b), kind in zip(X, y, strict=True)]
    (tmp_path / "large.csv").write_text("\n".join(lines))
    settings = ("--mode", "avg", "--data", "large.csv", "--rounds", "2", "--partitions", "2")
    small = train.summary(*settings)
    for module in (readers, prepare):
        monkeypatch.setattr(module, "LARGE_BYTES", 0)
    code, out, err = train(*settings, "--json", "--no-baseline", "--no-out")
    assert (code, err) == (0, "")
    assert "reading    large.csv, by" in out
    found = json.loads(out.splitlines()[-1])
    assert (found["n_examples"], found["n_features"]) == (small["n_examples"], 2)
    assert found["test_score"] > 0.95


@pytest.mark.parametrize("has_test", [False, True])
def test_a_large_file_ends_with_the_bits_of_a_small_one(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_test: bool
) -> None:
    """Where partitions are the same: weights, classes that are rare, and rows held out, too."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(300), rng.integers(0, 3, 300) // 2
    rows = [f"{a + b},u{i % 9},{i % 3},{b}" for i, (a, b) in enumerate(zip(x, y, strict=True))]
    for name, some in (("data.csv", rows), ("test.csv", rows[:50])):
        (tmp_path / name).write_text("\n".join(["x,user,w,kind", *some]))
    settings = (
        *("--mode", "avg", "--data", "data.csv", "--rounds", "2", "--partitions", "2"),
        *("--weight", "w", "--key", "user", "--partitioning", "by-key", "--lr", "0.5"),
        *("--class-weight", "balanced", *(("--test", "test.csv") if has_test else ())),
    )
    small = train.summary(*settings)
    for module in (readers, prepare):
        monkeypatch.setattr(module, "LARGE_BYTES", 0)
    large = train.summary(*settings)
    assert large["weights_sha256"] == small["weights_sha256"]
    assert large["test_score"] == small["test_score"]
    assert large["n_examples"] == (300 if has_test else 240)


def test_training_ends_when_the_score_is_reached_or_the_time_is_over(train: Command) -> None:
    forever = ("--mode", "async", "--epochs", "10000000")
    assert train.summary(*forever, "--target-score", "0.9")["test_score"] >= 0.85
    found = train.summary(*forever, "--time-limit", "0.3")
    assert found["epochs"] < 10_000_000


def test_the_door_to_all_commands_trains_too() -> None:
    words = [sys.executable, "-m", "paramserver.cli", "train", "--mode", "avg", "--rounds", "x"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 77
    assert "Usage: paramserver train" in done.stderr


def test_workers_of_other_machines_come_by_the_line_that_is_printed(
    train: Command, tmp_path: Path
) -> None:
    make_keys(tmp_path / "keys")
    settings = ("--mode", "avg", "--data", "iris", "--rounds", "3", "--partitions", "2")
    training = Training(
        tmp_path,
        *(*settings, "--address", "tcp://127.0.0.1:0", "--keys", "keys", "--workers", "2"),
        *("--out", "run", "--no-baseline", "--json"),
    )
    assert training.popen.stdout is not None
    invitation = next(line for line in training.popen.stdout if line.startswith("Start workers"))
    command_line = invitation.partition(":  ")[2].replace("--n-workers 4", "--n-workers 2")
    agent = subprocess.run(
        [sys.executable, *shlex.split(command_line)[1:]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    out, err = training.popen.communicate(timeout=60)
    assert (training.popen.returncode, agent.returncode, err) == (0, 0, "")
    found = json.loads(out.splitlines()[-1])
    assert found["weights_sha256"] == train.summary(*settings)["weights_sha256"]
    kept = (tmp_path / "run/config.toml").read_text()  # where a resumed master listens again
    assert f'address = "{shlex.split(command_line)[3]}"' in kept
    assert f'keys = "{tmp_path / "keys"}"' in kept


# --- when it is stopped ---------------------------------------------------------------------------


def test_averaging_ends_with_the_same_bits_however_often_it_was_stopped(
    train: Command, tmp_path: Path
) -> None:
    settings = ("--mode", "avg", "--data", "wine", "--rounds", "400", "--partitions", "3")
    reference = train.summary(*settings)
    training = Training(
        tmp_path, *settings, "--checkpoint-every", "0.02", "--out", "run", "--no-baseline"
    )
    n = training.wait_for_checkpoint()
    training.end_by(signal.SIGKILL)
    assert training.popen.returncode == -signal.SIGKILL

    training = Training(tmp_path, "--resume", "run")
    training.wait_for_checkpoint(after=n)
    said = training.end_by(signal.SIGINT)
    assert training.popen.returncode == 75
    assert said == "\nparamserver: stopped; go on with:  python -m paramserver.train --resume run\n"

    found = train.summary("--resume", "run", "--workers", "1", "--checkpoint-every", "9")
    assert found["rounds"] == 400
    assert found["weights_sha256"] == reference["weights_sha256"]
    lines = (tmp_path / "run/events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines if line]
    begun = [event["resumed"] for event in events if event["event"] == "RunStarted"]
    outcomes = [event["outcome"] for event in events if event["event"] == "RunEnded"]
    assert (begun, outcomes) == ([False, True, True], ["interrupted", "done"])


def test_async_stopped_by_the_system_applies_each_batch_once(
    train: Command, tmp_path: Path
) -> None:
    training = Training(
        tmp_path,
        *("--mode", "async", "--epochs", "120", "--checkpoint-every", "0.02", "--out", "run"),
    )
    training.wait_for_checkpoint()
    said = training.end_by(signal.SIGTERM)
    assert (training.popen.returncode, "--resume run" in said) == (75, True)
    found = train.summary("--resume", "run")
    assert found["epochs"] == 120
    assert sum(found["staleness"]["histogram"].values()) == found["updates"]


def test_a_run_that_was_begun_without_numba_goes_on_where_it_is(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ("--mode", "avg", "--data", "iris", "--partitions", "2")
    with monkeypatch.context() as machine:
        machine.setattr(choice, "find_spec", lambda _: None)
        train.summary(*quick, "--rounds", "2", "--out", "run")
    assert 'kernel = "numpy"\n' in (tmp_path / "run/config.toml").read_text()
    assert train.summary("--resume", "run", "--rounds", "3")["rounds"] == 3


def test_a_run_that_is_over_goes_on_for_longer(train: Command, tmp_path: Path) -> None:
    quick = ("--mode", "avg", "--data", "iris", "--partitions", "2")
    train.summary(*quick, "--rounds", "2", "--out", "run")
    _, said, _ = train("--resume", "run", "--no-baseline")
    assert "it was over before; --rounds N lets it go on" in said
    found = train.summary("--resume", "run", "--rounds", "5")
    assert found["weights_sha256"] == train.summary(*quick, "--rounds", "5")["weights_sha256"]
    assert "rounds = 5\n" in (tmp_path / "run/config.toml").read_text()
    assert "1 process on" in train(*quick, "--workers", "1", "--rounds", "1", "--no-out")[1]


# --- what it refuses ------------------------------------------------------------------------------


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
    train: Command, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    found, said = train.complaint(*arguments)
    assert words in said
    assert found == code
    assert list(tmp_path.iterdir()) == []


def test_a_setting_in_a_file_that_is_misspelt_is_answered_with_the_right_one(
    train: Command, tmp_path: Path
) -> None:
    (tmp_path / "my.toml").write_text('mode = "avg"\nlocal_step = 3\n')
    code, said = train.complaint("--config", "my.toml")
    assert (code, said) == (
        77,
        "paramserver: my.toml: there is no setting 'local_step'. Did you mean 'local_steps'?",
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b,kind\n1,2,x\n1,oops,y\n", "line 3, column 2"),
        ("a,b,kind\n" + "1,2,x\n" * 6, "All rows of data.csv have the label 'x'"),
        ("a,b,kind\n1,2,x\n1,nan,y\n" + "1,2,x\n" * 6, "line 3, column 2: the value is nan"),
        ("a,b,kind\n", "holds no rows"),
        ("a,b,kind\n1,2,x\n", "at least 5 are needed"),
        ("PK\3\4 as in a zip archive\n", "line 1 holds the character 0x03, which no text has"),
        ("a,b\r1,2\r3,4\r", "its lines end with carriage returns alone"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named_with_the_place(
    train: Command, tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "data.csv").write_text(content)
    code, said = train.complaint("--mode", "avg", "--data", "data.csv")
    assert words in said
    assert code == 1


def test_a_folder_that_is_not_free_is_left_as_it_is(train: Command, tmp_path: Path) -> None:
    for name, file, words in (
        ("mine", "letter.txt", "mine is not empty"),
        ("run", "config.toml", "run holds a run already"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("mode = 'avg'")
        code, said = train.complaint("--mode", "avg", "--out", name)
        assert code == 77
        assert words in said
        assert [p.name for p in (tmp_path / name).iterdir()] == [file]


def test_settings_of_a_resumed_run_cannot_change(train: Command, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('mode = "avg"\nrounds = 3\n')
    code, said = train.complaint("--resume", ".", "--mode", "async")
    assert code == 77
    assert ". holds a run of --mode avg, and that cannot change while it is resumed" in said
    code, said = train.complaint("--resume", ".", "--seed", "3")
    assert code == 77
    assert "--seed cannot change while a run is resumed" in said
    code, said = train.complaint("--resume", ".", "--config", "config.toml")
    assert code == 77
    assert "leave --config out" in said


def test_a_checkpoint_of_other_settings_is_refused_and_a_damaged_one_passed_over(
    train: Command, tmp_path: Path
) -> None:
    quick = ("--mode", "avg", "--data", "iris", "--rounds", "4", "--workers", "1")
    whole = train.summary(*quick, "--checkpoint-every", "0.001", "--out", "run")
    config = tmp_path / "run/config.toml"
    settings = config.read_text()
    config.write_text(settings.replace("batch_size = 32", "batch_size = 16"))
    code, said = train.complaint("--resume", "run")
    assert code == 77
    assert "The checkpoint is of another training: batch_size was 32 and is 16 now" in said

    config.write_text(settings)
    newest = max((tmp_path / "run/checkpoints").glob("*.checkpoint"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    code, out, err = train("--resume", "run", "--no-baseline", "--json")
    assert (code, err) == (0, "")
    assert "warning    A checkpoint is passed over" in out
    assert json.loads(out.splitlines()[-1])["weights_sha256"] == whole["weights_sha256"]

    damaged = dict.fromkeys((tmp_path / "run/checkpoints").glob("*.checkpoint"), b"")
    for path, nothing in damaged.items():
        path.write_bytes(nothing)
    code, said = train.complaint("--resume", "run")
    assert code == 1
    assert f"All {len(damaged)} checkpoints in {tmp_path}/run/checkpoints are damaged" in said
    now = {path: path.read_bytes() for path in (tmp_path / "run/checkpoints").glob("*.checkpoint")}
    assert now == damaged


def test_more_workers_than_cores_are_allowed_and_said(train: Command) -> None:
    settings = ("--mode", "avg", "--data", "iris", "--rounds", "1", "--no-out", "--no-baseline")
    code, out, _ = train(*settings, "--workers", str(n_cores() + 1))
    assert code == 0
    assert "more workers than cores" in out
    code, out, _ = train(*settings, "--workers", "2", "--partitions", "1")
    assert code == 0
    assert "more workers than partitions: 1 stand by" in out


def test_fewer_examples_than_workers_are_a_partition_each(train: Command, tmp_path: Path) -> None:
    rows = "".join(f"{i},{i % 2}\n" for i in range(5))
    (tmp_path / "few.csv").write_text(rows)
    settings = ("--mode", "avg", "--data", "few.csv", "--rounds", "1")
    assert train.summary(*settings, "--workers", "6")["n_partitions"] == 4
    code, said = train.complaint(*settings, "--workers", "6", "--partitions", "6")
    assert code == 77
    assert "4 examples cannot be cut into 6 partitions" in said


@pytest.mark.parametrize("mode", ["avg", "async"])
def test_rows_of_a_key_stay_together_and_weights_count(
    train: Command, tmp_path: Path, mode: str
) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{i % 3},u{i % 7},{x:.3f},{i % 2},{int(x > 0)}" for i, x in
            enumerate(rng.standard_normal(200))]  # fmt: skip
    (tmp_path / "data.csv").write_text("\n".join(["a,user,x,w,kind", *rows]))
    settings = ("--mode", mode, "--data", "data.csv", "--workers", "2")
    keyed = ("--key", "user", "--partitioning", "by-key")
    found = train.summary(*settings, *keyed, "--weight", "w", "--class-weight", "balanced")
    assert (found["n_features"], found["n_partitions"]) == (2, 2)
    assert found["test_score"] > 0.9
    code, said = train.complaint(*settings, "--key", "user")
    assert (code, said) == (
        77,
        "paramserver: --key goes with --partitioning by-key: rows with the same value in that "
        "column come to the same partition.",
    )


def test_a_learning_rate_that_is_too_large_ends_the_run_in_words(
    train: Command, tmp_path: Path
) -> None:
    code, said = train.complaint("--mode", "avg", "--lr", "1e30", "--rounds", "50", "--out", "run")
    assert code == 1
    assert "learning rate is too large" in said
    assert "the last finite weights are kept in run/model.safetensors" in said
    last = json.loads((tmp_path / "run/events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["outcome"]) == ("RunEnded", "failed")
    assert "until it failed: Round" in (tmp_path / "run/report.html").read_text()
    kept = load_file(tmp_path / "run/model.safetensors")
    assert np.isfinite(kept["coef"]).all()
    assert "learning rate is too large" in last["reason"]


def test_a_push_that_diverges_ends_the_run_in_words(train: Command, tmp_path: Path) -> None:
    code, out, err = train("--mode", "async", "--lr", "1e35", "--no-baseline", "--out", "run")
    assert code == 1
    assert "it was not applied. The learning rate is too large" in err
    assert "the last finite weights are kept in run/model.safetensors" in err
    assert "a job raised" not in out  # those that are told to stop are no news
    assert np.isfinite(load_file(tmp_path / "run/model.safetensors")["coef"]).all()


@pytest.mark.parametrize("door", ["paramserver.train", "paramserver"])
def test_ctrl_c_before_anything_is_there_ends_it_with_one_line(tmp_path: Path, door: str) -> None:
    """Also amid the import of a library, which might make something else of an exception."""
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-m", door, *(() if "." in door else ("train",)), "--mode", "avg"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "\nparamserver: stopped before anything was begun\n"


@pytest.mark.parametrize("made_of_it", [KeyboardInterrupt, ImportError])
def test_a_run_that_is_stopped_before_it_has_a_folder_says_so(
    train: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made_of_it: type[BaseException]
) -> None:
    """Some libraries turn an interrupt amid their import into an error of it."""

    def interrupt(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            while True:
                pass
        except KeyboardInterrupt:
            raise made_of_it from None

    monkeypatch.setattr(prepare, "load_data", interrupt)
    code, _, err = train("--mode", "avg")
    assert code == 130
    assert err == "\nparamserver: stopped; nothing was kept that could be resumed\n"
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_stopped_before_it_goes_on_can_be_resumed_still(
    train: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    train.summary("--mode", "avg", "--data", "wine", "--rounds", "2", "--out", "run")
    monkeypatch.setattr(prepare, "load_data", interrupt)
    code, _, err = train("--resume", "run")
    assert code == 75
    assert err == "\nparamserver: stopped; go on with:  python -m paramserver.train --resume run\n"
