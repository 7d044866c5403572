"""Which files a run may write, and what becomes of a batch when something breaks."""

import errno
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from cryoseg.config.batch import Shard, slurm_shard
from cryoseg.errors import ConfigError, InputError, OutputError
from cryoseg.events import Event, Note, Report, Status, Warn, ignore
from cryoseg.io.images.volumes import made_by, write_mask
from cryoseg.io.inputs import InputItem
from cryoseg.io.outputs import atomic_output, check_outputs, lock, temporary_path
from cryoseg.io.records import describe_input, write_record
from cryoseg.pipelines.batches.finished import Done, Job, is_finished
from cryoseg.pipelines.batches.report import REPORT_SUFFIXES, write_report
from cryoseg.pipelines.batches.run import Batch, Work, run_batch
from cryoseg.types import Geometry

IDENTITY = {"command": "segment", "model": {"sha256": {"m": "aa"}}, "settings": {"threshold": -0.5}}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "ts.mrc").write_bytes(b"tomogram")
    folder = tmp_path / "out"
    folder.mkdir()
    outputs = {kind: folder / f"ts_membrane_{kind}.mrc" for kind in ("mask", "logits")}
    return Job(path=tmp_path / "ts.mrc", outputs={**outputs, "record": folder / "ts.json"}, identity=IDENTITY)


def mask(path: Path, label: str) -> None:
    write_mask(path, np.zeros((2, 3, 4), bool), Geometry(), label=label)


def finish(job: Job, **changes: object) -> None:
    assert job.path is not None
    write_results(job.path, job.outputs)
    record = {**job.identity, "input": describe_input(job.path), **changes}
    write_record(job.record, record, overwrite=True)


def write_results(path: Path, outputs: Mapping[str, Path]) -> Done:
    for kind, output in outputs.items():
        if kind != "record":
            output.write_bytes(b"result of " + path.read_bytes())
    return Done()


def test_nothing_there_is_free_to_write(job: Job) -> None:
    assert not is_finished(job)


def test_what_the_same_run_made_is_kept(job: Job) -> None:
    finish(job)
    assert is_finished(job)


def test_renamed_weights_and_a_copied_input_are_the_same(job: Job) -> None:
    finish(job, model={"sha256": {"another name": "aa"}, "reason": "asked for"})
    os.utime(job.path, (1, 1))
    assert is_finished(job)


def test_settings_that_an_older_cryoseg_did_not_record_are_passed_over(job: Job) -> None:
    finish(job, settings={})
    assert is_finished(job)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"settings": {"threshold": 0.25}}, r"threshold \(0\.25, now -0\.5\)"),
        ({"model": {"sha256": {"m": "bb"}}}, r"another model \(other weights\)"),
        ({"command": "pick"}, r"command \(pick, now segment\)"),
        ({"input": {"name": "old.mrc", "sha256": "cc"}}, r"input \(old\.mrc had other content\)"),
    ],
)
def test_what_differs_is_named(job: Job, changes: dict[str, object], named: str) -> None:
    finish(job, **changes)
    with pytest.raises(OutputError, match=rf"ts\.json.*{named}.*--overwrite"):
        is_finished(job)


def test_an_input_that_changed_is_named(job: Job) -> None:
    finish(job)
    job.path.write_bytes(b"another!")
    with pytest.raises(OutputError, match=r"input \(ts\.mrc had other content\)"):
        is_finished(job)


def test_pieces_of_a_broken_run_are_replaced(job: Job) -> None:
    mask(job.outputs["mask"], made_by("segment"))
    assert not is_finished(job)


def test_a_mask_of_another_program_is_not(job: Job) -> None:
    mask(job.outputs["mask"], "drawn by hand")
    with pytest.raises(OutputError, match=r"ts_membrane_mask\.mrc.*--overwrite"):
        is_finished(job)


def test_a_finished_run_without_the_file_asked_for_now_is_not(job: Job) -> None:
    finish(job)
    job.outputs["logits"].unlink()
    with pytest.raises(OutputError, match=r"but not ts_membrane_logits\.mrc"):
        is_finished(job)


def test_a_record_that_cannot_be_read_is_one_sentence(job: Job) -> None:
    job.record.write_text("{")
    with pytest.raises(OutputError, match=r"ts\.json: is damaged.* --overwrite"):
        is_finished(job)
    job.record.write_text("{}")
    with pytest.raises(OutputError, match="names no command"):
        is_finished(job)


def test_a_batch_outlives_every_failure() -> None:
    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        match path.name:
            case "bad":
                raise InputError("bad: one sentence.")
            case "defect":
                return [][1]
            case "large":
                raise MemoryError
        return Done()

    items = [InputItem(path=Path(name)) for name in ("bad", "defect", "large", "good")]
    items.insert(0, InputItem(path=Path("absent"), error="absent: no such file."))
    events: list[Event] = []
    report = run_batch(items, work, on_event=events.append)
    assert [row.status for row in report.rows] == [Status.FAILED] * 4 + [Status.DONE]
    messages = [row.message for row in report.rows]
    assert messages[:2] == ["absent: no such file.", "bad: one sentence."]
    assert "IndexError" in messages[2]
    assert "--verbose" in messages[2]
    assert "not enough memory" in messages[3]
    assert not any("Traceback" in message for message in messages)
    assert report.exit_status == 1
    details = [event for event in events if isinstance(event, Note)]
    assert [event.detail for event in details] == [True]
    assert "Traceback" in details[0].text


class Folder:
    """Inputs `0` to `n - 1`, each of which gives two files and a record."""

    def __init__(self, root: Path, count: int) -> None:
        self.out = root / "out"
        self.items = []
        self.worked: list[str] = []
        for number in range(count):
            path = root / f"{number}.mrc"
            path.write_text(str(number))
            self.items.append(InputItem(path=path))

    def plan(self, path: Path) -> Job:
        outputs = {kind: self.out / f"{path.stem}_{kind}.txt" for kind in ("mask", "logits")}
        record = {"record": self.out / f"{path.stem}.json"}
        return Job(path=path, outputs=outputs | record, identity=IDENTITY)

    def work(self, path: Path, outputs: Mapping[str, Path]) -> Done:
        self.worked.append(path.stem)
        return write_results(path, outputs)

    def run(self, batch: Batch = Batch(), work: Work | None = None) -> Report:
        self.out.mkdir(exist_ok=True)
        self.worked.clear()
        return run_batch(
            self.items,
            work or self.work,
            plan=self.plan,
            batch=batch,
            on_event=ignore,
        )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, 5)


def statuses(report: Report) -> list[str]:
    return [row.status.value for row in report.rows]


def test_a_second_run_does_what_the_first_left(folder: Folder) -> None:
    (folder.items[2].path).unlink()
    assert statuses(folder.run()) == ["done", "done", "failed", "done", "done"]
    folder.items[2].path.write_text("2")
    assert statuses(folder.run()) == ["skipped", "skipped", "done", "skipped", "skipped"]
    assert folder.worked == ["2"]
    assert statuses(folder.run(Batch(overwrite=True))) == ["done"] * 5
    assert not list(folder.out.glob(".*"))


def test_the_lock_of_a_process_killed_after_its_last_file_is_removed(folder: Folder) -> None:
    folder.run()
    record = folder.plan(folder.items[1].path).record
    child = os.fork()
    if child == 0:
        with lock(record):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    temporary_path(folder.plan(folder.items[2].path).outputs["mask"]).write_text("half")
    assert len(list(folder.out.glob(".*"))) == 2
    assert statuses(folder.run()) == ["skipped"] * 5
    assert not list(folder.out.glob(".*"))
    with lock(record):
        folder.run()
        assert list(folder.out.glob(".*"))


def test_a_failure_leaves_the_outputs_of_an_earlier_run(folder: Folder) -> None:
    folder.run()
    before = {path.name: path.read_bytes() for path in folder.out.iterdir()}

    def fail(path: Path, outputs: Mapping[str, Path]) -> Done:
        outputs["mask"].write_text("new")
        with atomic_output(outputs["logits"]):
            raise OSError(errno.ENOSPC, "No space left on device")

    report = folder.run(Batch(overwrite=True), work=fail)
    assert statuses(report) == ["failed"] * 5
    assert report.rows[0].message.startswith(f"{folder.out / '0_logits.txt'}: cannot be written: the disk is")
    assert {path.name: path.read_bytes() for path in folder.out.iterdir()} == before


def test_a_record_joins_what_the_job_and_the_work_know(folder: Folder) -> None:
    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        write_results(path, outputs)
        return Done(record={"input": {"shape": [1, 2]}, "model": {"reason": "asked for"}, "seconds": 1.0})

    folder.run(work=work)
    record = json.loads((folder.out / "3.json").read_text())
    assert record["input"] | {"shape": [1, 2], "name": "3.mrc"} == record["input"]
    assert record["model"] == {"sha256": {"m": "aa"}, "reason": "asked for"}
    assert record["outputs"] == {"mask": "3_mask.txt", "logits": "3_logits.txt"}
    assert record["seconds"] == 1.0


def test_missing_files_of_a_simulation_are_made_again(tmp_path: Path) -> None:
    job = Job(path=None, outputs={"image": tmp_path / "a.txt", "record": tmp_path / "a.json"})
    for path in job.outputs.values():
        path.write_text("{}")
    assert is_finished(job)
    job.outputs["image"].unlink()
    assert not is_finished(job)


def test_a_dry_run_writes_nothing(folder: Folder) -> None:
    folder.out.mkdir()
    finish(folder.plan(folder.items[1].path))
    before = sorted(folder.out.iterdir())
    report = folder.run(Batch(is_dry=True))
    assert statuses(report) == ["to do", "skipped", "to do", "to do", "to do"]
    assert "0_mask.txt" in report.rows[0].message
    assert report.exit_status == 0
    assert sorted(folder.out.iterdir()) == before


def test_shards_share_no_input_and_leave_none_out(folder: Folder) -> None:
    done = []
    for index in (1, 2):
        folder.run(Batch(shard=Shard(index=index, count=2)))
        done.append(list(folder.worked))
    assert done == [["0", "2", "4"], ["1", "3"]]


def test_a_task_of_a_slurm_array_does_its_shard(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def task(number: int, count: int) -> None:
        values = {"ID": number, "MIN": 0, "MAX": 2 * (count - 1), "COUNT": count, "STEP": 2}
        for name, value in values.items():
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))

    task(2, 3)
    folder.run()
    assert folder.worked == ["1", "4"]
    folder.run(Batch(shard=Shard()))
    assert len(folder.worked) == 3  # all but the two that are finished
    task(2, 9)  # nine tasks were surely not meant to share five inputs
    folder.run(Batch(overwrite=True))
    assert len(folder.worked) == 5


def test_slurm_arrays() -> None:
    def shard(**values: int) -> Shard | None:
        return slurm_shard({f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()})

    assert shard(ID=4, MIN=1, MAX=8, COUNT=8) == Shard(index=4, count=8)
    assert shard(ID=7, MIN=1, MAX=7, COUNT=3, STEP=3) == Shard(index=3, count=3)
    assert shard(ID=5, MIN=1, MAX=7, COUNT=3) is None  # --array=1,5,7
    assert shard(ID=5, MIN=5, MAX=5, COUNT=1) is None
    assert slurm_shard({}) is None


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "a/b", "-1/2", "1/0"])
def test_shards_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="--shard"):
        Shard.parse(text)


def test_an_empty_shard_warns(folder: Folder) -> None:
    events: list[Event] = []
    report = run_batch(
        folder.items, write_results, batch=Batch(shard=Shard(index=7, count=9)), on_event=events.append
    )
    assert (report.rows, report.exit_status) == ([], 0)
    assert isinstance(events[0], Warn)


def test_what_another_process_works_on_is_left_to_it(folder: Folder) -> None:
    folder.out.mkdir()
    with lock(folder.plan(folder.items[0].path).record) as is_ours:
        assert is_ours
        report = folder.run()
    assert statuses(report) == ["elsewhere", "done", "done", "done", "done"]
    assert f"process {os.getpid()}" in report.rows[0].message
    assert report.exit_status == 0
    assert statuses(folder.run())[0] == "done"


def test_what_another_process_finished_meanwhile_is_kept(folder: Folder) -> None:
    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        if path.stem == "0":
            finish(folder.plan(folder.items[1].path))
        return folder.work(path, outputs)

    assert statuses(folder.run(work=work)) == ["done", "skipped", "done", "done", "done"]


def test_what_a_killed_process_left_half_written_is_removed(folder: Folder) -> None:
    folder.out.mkdir()
    half = temporary_path(folder.plan(folder.items[0].path).outputs["mask"])
    others = temporary_path(folder.out / "mine.mrc")
    for path in (half, others):
        path.write_text("half")
    folder.run()
    assert not half.exists()
    assert others.exists()


@pytest.fixture
def default_signals() -> Iterator[None]:
    """Signals as in a terminal: what a shell starts in the background ignores Ctrl-C, tests too."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_an_interrupt_ends_the_batch_in_good_order(
    folder: Folder, signum: signal.Signals, status: int
) -> None:
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]

    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        if path.stem == "2":
            outputs["mask"].write_text("whole, but alone")
            with atomic_output(outputs["logits"]) as temporary:
                temporary.write_text("half")
                signal.raise_signal(signum)
                time.sleep(5)
        return folder.work(path, outputs)

    report = folder.run(work=work)
    assert statuses(report) == ["done", "done", "not done", "not done", "not done"]
    assert report.exit_status == status
    assert {path.name for path in folder.out.iterdir()} == {
        f"{number}{ending}" for number in (0, 1) for ending in (".json", "_mask.txt", "_logits.txt")
    }
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert statuses(folder.run()) == ["skipped"] * 2 + ["done"] * 3


def test_a_keyboard_interrupt_without_a_signal_counts_as_ctrl_c() -> None:
    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        raise KeyboardInterrupt

    report = run_batch([InputItem(path=Path("a"))], work, on_event=ignore)
    assert (statuses(report), report.exit_status) == (["not done"], 130)


def test_reports_in_a_folder_without_permission_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "new" / "t.csv"
    check_outputs([report], REPORT_SUFFIXES, overwrite=True)
    access = os.access

    def without_permission(path: Path, mode: int) -> bool:
        return access(path, mode) and (mode == os.F_OK or path != tmp_path)

    monkeypatch.setattr(os, "access", without_permission)
    with pytest.raises(OutputError, match=r"t\.csv: cannot be written: you may not write there"):
        check_outputs([report], REPORT_SUFFIXES, overwrite=True)


def test_reports(folder: Folder, tmp_path: Path) -> None:
    folder.items[1].path.unlink()
    done = folder.run()
    table = write_report(tmp_path / "t.csv", done).read_text().splitlines()
    assert table[0] == "input,status,seconds,message,outputs"
    assert len(table) == 6
    assert table[1].startswith(f"{folder.items[0].path},done,")
    whole = json.loads(write_report(tmp_path / "t.json", done).read_text())
    assert whole["counts"] == {"done": 4, "failed": 1}
    assert whole["exit_status"] == 1
    assert whole["rows"][0]["outputs"][-1].endswith("0.json")
    part = write_report(tmp_path / "t.csv", done, shard=Shard(index=2, count=4))
    assert part.name == "t_2-of-4.csv"
    with pytest.raises(ConfigError, match=r"\.csv or \.json"):
        check_outputs([Path("t.txt")], REPORT_SUFFIXES, option="--report", overwrite=True)
