"""Interrupted recordings can be resumed at any point, are identical, and read no batch twice."""

import errno
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import lmri
from lmri import open_study, record, storage
from lmri.cli.app import app
from lmri.demo.texts import generate
from lmri.exceptions import LMRIWarning, NonFiniteError, StudyError
from lmri.models.recorder import write_activations
from lmri.models.recorder.journal import Journal
from lmri.report.validation import validate
from lmri.storage.files import lock_wait
from tiny_models import build, sentences, word_tokenizer

TEXTS = sentences(24, shortest=2, longest=12)
OPTIONS = {"corpus": "words", "batch_size": 3, "run_tokens": 40, "test_fraction": 0.25}
BATCHES = 6  # of the 18 texts to fit


def files_of(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(root).rglob("*"))
        if path.name not in ("log.jsonl", storage.LOCK)
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of a recording that was not interrupted."""
    root = tmp_path_factory.mktemp("whole") / "study"
    record(build("gpt2"), word_tokenizer(), TEXTS, root, **OPTIONS)
    return files_of(root)


@pytest.fixture
def reads(monkeypatch):
    """Count forward passes; ``reads.stop_at`` lets one of them fail."""

    class Reads(list):
        stop_at, error = None, KeyboardInterrupt

    found, original = Reads(), write_activations.capture

    def capture(model, spaces, ids, *rest):
        if len(found) == found.stop_at:
            raise found.error
        found.append(ids.shape)
        return original(model, spaces, ids, *rest)

    monkeypatch.setattr(write_activations, "capture", capture)
    return found


def interrupted(root, reads, after, **options):
    """Record, with an interruption after some batches."""
    reads.stop_at = after
    with pytest.raises(reads.error):
        record(build("gpt2"), word_tokenizer(), TEXTS, root, **(OPTIONS | options))
    reads.stop_at = None
    reads.clear()
    return root


def unfinished(root):
    [folder] = open_study(root).unfinished()
    return folder


# -- killed -----------------------------------------------------------------------------------------------------------

KILLED = """
import json, os, signal, sys, threading, warnings
from pathlib import Path

warnings.simplefilter("ignore")
import torch

torch.set_num_threads(1)
from lmri import record
from lmri.models.recorder import direct_io, files, write_activations
from lmri.models.recorder.journal import Journal
from tiny_models import build, word_tokenizer

job = json.loads(sys.argv[1])
model, tokenizer, home = build("gpt2", **job["sizes"]), word_tokenizer(), Path(job["home"])
NAMES = ("recorder/run.py", "recorder/write_activations.py", "recorder/files.py", "recorder/direct_io.py",
         "recorder/journal.py", "recorder/finalize.py", "recorder/plan.py",
         "storage/files.py", "storage/dataset_files.py", "storage/store.py", "storage/adding.py", "storage/corpora.py",
         "storage/subjects.py")


def attempt(name, lines, notes):
    '''Record in a separate process that is killed after a number of lines; return whether it was killed.'''
    child = os.fork()
    if child == 0:
        left = lines

        def trace(frame, event, arg):
            nonlocal left
            if not frame.f_code.co_filename.endswith(NAMES):
                return None
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        def noted(what, number):
            with open(notes, "a") as stream:
                stream.write(f"{what} {number}\\n")

        # Batches that an attempt listed, but could not record before it was killed.
        for path in (home / name).rglob("journal.jsonl"):
            for line in path.read_bytes().split(b"\\n")[:-1]:
                if b"batch" in line:
                    noted("done", json.loads(line)["batch"])

        original, add = write_activations._Batch.read, Journal.add

        def read(reading, plan, number, into):
            noted("read", number)
            return original(reading, plan, number, into)

        def done(self, batch, crc):
            add(self, batch, crc)
            noted("done", batch)

        write_activations._Batch.read, Journal.add = read, done
        threading.settrace(trace)  # the thread that writes, too
        sys.settrace(trace)
        record(model, tokenizer, job["texts"], home / name, resume=True, **job["options"])
        sys.settrace(None)
        if lines < 0:
            (home / "lines").write_text(str(-left + lines))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


attempt("whole", -1, home / "whole.txt")
if job["past_memory"]:
    files.LARGE, direct_io._WORTH_IT = 0, 1
    attempt("past_memory", -1, home / "past_memory.txt")
n_lines = int((home / "lines").read_text())
statuses = []
for number, shares in enumerate(job["shares"]):
    found = []
    for share in shares:
        found.append(attempt(str(number), max(1, int(share * n_lines)), home / f"{number}.txt"))
    found.append(attempt(str(number), -1, home / f"{number}.txt"))
    statuses.append(found)
print(json.dumps({"n_lines": n_lines, "statuses": statuses}))
"""


@pytest.mark.parametrize(
    ("n_kills", "past_memory"),
    [(4, False), (2, True), *(pytest.param(24, one, marks=pytest.mark.slow) for one in (False, True))],
)
def test_killed_anywhere_and_resumed_it_is_the_same_and_no_batch_is_read_twice(tmp_path, whole, n_kills, past_memory):
    chance = random.Random(0)
    shares = [[(number + chance.random()) / n_kills] for number in range(n_kills)]  # spread over the whole of it
    shares += [[0.999 - number / 50] for number in range(n_kills // 2)]  # and at the end, where files are moved
    shares += [[chance.random() for _ in range(n_kills // 2)] for _ in range(n_kills // 4)]  # again and again
    sites = ["mlp_out", "mlp_hidden"]
    job = {"home": str(tmp_path), "texts": TEXTS, "options": {**OPTIONS, "site": sites}, "shares": shares}
    job |= {"past_memory": past_memory, "sizes": {"hidden": 2048} if past_memory else {}}  # several blocks a text
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(job)], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    assert done.returncode == 0, done.stderr
    statuses = json.loads(done.stdout)["statuses"]
    assert all(found[-1] == 0 for found in statuses)
    killed = [status for found in statuses for status in found[:-1]]
    assert killed.count(-9) >= n_kills
    assert set(killed) <= {-9, 0}
    expected = files_of(tmp_path / "whole")
    if past_memory:
        assert files_of(tmp_path / "past_memory") == expected
    else:
        assert {name: expected[name] for name in expected if "mlphidden" not in name} == whole
    for number in range(len(shares)):
        assert files_of(tmp_path / str(number)) == expected
        finished = set()
        for line in (tmp_path / f"{number}.txt").read_text().splitlines():
            what, batch = line.split()
            assert what == "done" or batch not in finished
            if what == "done":
                finished.add(batch)
        assert finished == {str(batch) for batch in range(BATCHES)}


@pytest.mark.parametrize("after", [1, 3, 5])
def test_resumed_it_reads_what_is_left_and_is_the_same(tmp_path, whole, reads, after):
    interrupted(tmp_path, reads, after)
    assert open_study(tmp_path).recordings() == []
    told = []
    record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, resume=True, progress=lambda *c: told.append(c), **OPTIONS)
    assert len(reads) == BATCHES - after
    assert files_of(tmp_path) == whole
    assert len(told) == len(reads)
    assert told[-1][0] == told[-1][1]  # what was done before counts


def test_a_finished_recording_cannot_be_resumed(tmp_path, whole, reads):
    record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, resume=True, **OPTIONS)  # nothing there yet: it begins
    assert len(reads) == BATCHES
    record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, resume=True, **OPTIONS)
    assert len(reads) == BATCHES
    assert files_of(tmp_path) == whole


def test_interrupted_before_the_first_batch_the_folder_is_as_it_was(tmp_path, reads):
    interrupted(tmp_path / "study", reads, 0)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_finished_batches_are_kept_and_reported(tmp_path, reads, error, whole):
    reads.error, reads.stop_at = error, 4
    with warnings.catch_warnings(record=True, action="always") as told, pytest.raises(error) as raised:
        record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, **OPTIONS)
    said = " ".join([str(raised.value), *(str(one.message) for one in told)])
    assert "4 of 6 batches are finished and were saved" in said
    assert "--resume" in said
    assert any("not finished" in note for note in validate(open_study(tmp_path)).notes)


@pytest.mark.parametrize("options", [{}, {"n_dummy": 2}])
def test_without_resume_nothing_that_is_finished_is_discarded(tmp_path, reads, whole, options):
    interrupted(tmp_path, reads, 4)
    before = files_of(tmp_path)
    with pytest.raises(StudyError, match=r"was interrupted; 4 finished batches were saved\. Continue with --resume"):
        record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, **(OPTIONS | options))
    assert files_of(tmp_path) == before
    assert not reads
    storage.remove(unfinished(tmp_path))  # as the message says
    record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, **OPTIONS)
    assert len(reads) == BATCHES
    assert files_of(tmp_path) == whole


def test_values_that_are_not_finite_leave_nothing_to_resume(tmp_path):
    model, tokenizer = build("gpt2"), word_tokenizer()
    with torch.no_grad():
        model.transformer.wte.weight[tokenizer.convert_tokens_to_ids("rain")] = float("nan")
    texts = ["the cat", "the dog", "a very big red tree near the rain"]
    with pytest.raises(NonFiniteError, match="Nothing was recorded"):
        record(model, tokenizer, texts, tmp_path / "study", batch_size=1, test_fraction=0)
    assert not (tmp_path / "study").exists()


# -- several sites ----------------------------------------------------------------------------------------------------


def test_several_sites_in_one_pass_are_those_recorded_one_by_one(tmp_path, reads, whole):
    model, tokenizer = build("gpt2"), word_tokenizer()
    recordings = record(model, tokenizer, TEXTS, tmp_path / "both", **OPTIONS, site=["mlp_hidden", "mlp_out"])
    assert [one.space.site for one in recordings] == ["mlp_hidden", "mlp_out"]
    assert len(reads) == BATCHES
    for site in ("mlp_out", "mlp_hidden"):
        record(model, tokenizer, TEXTS, tmp_path / "one", **OPTIONS, site=site)
    assert files_of(tmp_path / "both") == files_of(tmp_path / "one")
    again = record(model, tokenizer, TEXTS, tmp_path / "one", **OPTIONS, site=["mlp_out", "mlp_hidden"])
    assert len(again) == 2
    assert len(reads) == 3 * BATCHES
    for wrong in ([], ["mlp_out", "mlp_out"]):
        with pytest.raises(ValueError, match="site is"):
            record(model, tokenizer, TEXTS, tmp_path / "one", **OPTIONS, site=wrong)


def test_one_of_several_sites_cannot_be_resumed_by_itself(tmp_path, reads):
    interrupted(tmp_path, reads, 2, site=["mlp_out", "mlp_hidden"])
    with pytest.raises(StudyError, match=r"No interrupted .* at mlp_out; .* at mlp_out, mlp_hidden\. Name these"):
        record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, resume=True, **OPTIONS)
    record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, resume=True, **OPTIONS, site=["mlp_out", "mlp_hidden"])
    assert len(reads) == BATCHES - 2
    assert open_study(tmp_path).unfinished() == []


# -- another plan -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"texts": TEXTS[:-1]}, "other texts"),
        ({"texts": TEXTS[::-1]}, "other texts"),
        ({"batch_size": 2}, "batch_size was 3 and is 2"),
        ({"n_dummy": 2}, "n_dummy was 1 and is 2"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"projection": "attn.c_proj"}, r"projection was None and is 'attn.c_proj'; other neurons"),
        ({"tokenizer": word_tokenizer(special=False)}, None),
    ],
)
def test_another_plan_is_refused_with_what_differs(tmp_path, reads, whole, changed, message):
    interrupted(tmp_path, reads, 3)
    before = files_of(tmp_path)
    options = OPTIONS | changed
    texts, tokenizer = options.pop("texts", TEXTS), options.pop("tokenizer", word_tokenizer())
    if message is not None:
        with pytest.raises(StudyError, match=rf"has another plan: .*{message}.*delete .* to start over"):
            record(build("gpt2"), tokenizer, texts, tmp_path, resume=True, **options)
        assert files_of(tmp_path) == before
        assert not reads
    options = dict(OPTIONS)  # the control: what was asked for at first goes on
    record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, resume=True, **options)
    assert len(reads) == BATCHES - 3
    assert files_of(tmp_path) == whole


def test_other_weights_are_refused(tmp_path, reads):
    interrupted(tmp_path, reads, 3)
    before = files_of(tmp_path)
    for resume in (True, False):
        with pytest.raises(StudyError, match=r"Nothing was written.*or delete the unfinished recording"):
            record(build("gpt2", seed=1), word_tokenizer(), TEXTS, tmp_path, resume=resume, **OPTIONS)
    assert files_of(tmp_path) == before


def test_other_versions_and_another_tokenizer_are_refused(tmp_path, reads, monkeypatch):
    interrupted(tmp_path, reads, 3)
    versions = storage.versions()
    with monkeypatch.context() as patch:
        patch.setattr(storage, "versions", lambda: versions | {"torch": "0.1"})
        with pytest.raises(StudyError, match=re.escape(f"torch was {versions['torch']!r} and is '0.1'")):
            record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, resume=True, **OPTIONS)

    class Shifted:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __call__(self, text, **options):
            made = self.inner(text, **options)
            made["input_ids"] = [(token + 1) % 90 for token in made["input_ids"]]
            return made

    with pytest.raises(StudyError, match="other tokens of the same texts"):
        record(build("gpt2"), Shifted(word_tokenizer()), TEXTS, tmp_path, resume=True, **OPTIONS)


def test_a_split_that_another_recording_has_moved_is_refused(tmp_path, reads):
    # Both corpora hold the same texts, and the one that is finished first decides which of them are held out.
    interrupted(tmp_path, reads, 3)
    record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, **(OPTIONS | {"corpus": "other", "seed": 5}))
    with pytest.raises(StudyError, match="another train/test split"):
        record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, resume=True, **OPTIONS)


# -- the journal ------------------------------------------------------------------------------------------------------


def test_a_torn_journal_costs_the_batch_of_its_last_line_at_most(tmp_path, reads, whole):
    interrupted(tmp_path / "begun", reads, 3)
    lines = (unfinished(tmp_path / "begun") / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 4  # a header, and three batches
    for number, kept in enumerate([b"", lines[0][:7], lines[0], b"".join(lines[:3]) + lines[3][:-1], b"".join(lines)]):
        root = shutil.copytree(tmp_path / "begun", tmp_path / str(number))
        (unfinished(root) / "journal.jsonl").write_bytes(kept)
        reads.clear()
        record(build("gpt2"), word_tokenizer(), TEXTS, root, resume=True, **OPTIONS)
        assert len(reads) == BATCHES - max(0, kept.count(b"\n") - 1)
        assert files_of(root) == whole


def test_what_follows_a_torn_line_is_not_lost_with_it(tmp_path, reads, whole):
    interrupted(tmp_path, reads, 2)
    with (unfinished(tmp_path) / "journal.jsonl").open("ab") as stream:
        stream.write(b'{"batch": 5, "cr')
    interrupted(tmp_path, reads, 2, resume=True)
    record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, resume=True, **OPTIONS)
    assert len(reads) == BATCHES - 4
    assert files_of(tmp_path) == whole


@pytest.mark.parametrize("n_left", [0, 800])  # with the header, or without
def test_data_that_a_loss_of_power_took_are_read_again(tmp_path, reads, whole, n_left):
    interrupted(tmp_path, reads, 3)
    folder = unfinished(tmp_path)
    for image in folder.glob("*_bold.nii"):  # the pages never reached the disk, and the journal did
        content = image.read_bytes()
        image.write_bytes(content[:n_left] + bytes(len(content) - n_left))
    record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, resume=True, **OPTIONS)
    assert len(reads) == BATCHES
    assert files_of(tmp_path) == whole


def test_an_image_that_is_gone_is_read_again(tmp_path, reads, whole, monkeypatch):
    monkeypatch.setattr(write_activations, "_SYNC_EVERY", 1)  # nothing is checked by its checksum then
    interrupted(tmp_path, reads, 5)
    sorted(unfinished(tmp_path).glob("*_bold.nii"))[0].unlink()
    record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, resume=True, **OPTIONS)
    assert 1 < len(reads) <= BATCHES
    assert files_of(tmp_path) == whole


def test_an_image_that_is_gone_while_files_are_moved_is_an_error(tmp_path, reads, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("lmri.models.recorder.finalize.write_recording_site", stop)
    with pytest.raises(KeyboardInterrupt, match="6 of 6 batches"):
        record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, **OPTIONS)
    next(tmp_path.rglob("*_bold.nii")).unlink()
    with (
        pytest.warns(LMRIWarning, match="6 of 6 batches"),
        pytest.raises(StudyError, match=r"_bold.nii is missing. Delete .* then record again"),
    ):
        record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, resume=True, **OPTIONS)
    assert open_study(tmp_path).recordings() == []


def test_a_journal_believes_what_was_synced_and_checks_the_rest(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", {"of": "this"})
    journal.add(0, 10)
    journal.synced()
    journal.add(1, 11)
    journal.add(2, 12)
    again = Journal(tmp_path / "journal.jsonl", {"of": "this"})
    assert again.done == {0: 10, 1: 11, 2: 12}
    asked = []
    again.verify(lambda batch: asked.append(batch) or 11)
    assert asked == [1, 2]
    assert again.done == {0: 10, 1: 11}
    assert Journal(tmp_path / "journal.jsonl", {"of": "this"}).done == {0: 10, 1: 11}
    with pytest.raises(StudyError, match="journal of another recording"):
        Journal(tmp_path / "journal.jsonl", {"of": "that"})


def test_the_disk_is_waited_for_before_a_batch_counts_as_safe(tmp_path, reads, monkeypatch):
    events = []
    monkeypatch.setattr(write_activations, "_SYNC_EVERY", 1)
    for kind, name in ((write_activations.Files, "sync"), (Journal, "add"), (Journal, "synced"), (Journal, "whole")):
        original = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda *a, o=original, n=name, **k: events.append(n) or o(*a, **k))
    record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, **OPTIONS)
    assert events == ["add", "sync", "synced"] * BATCHES + ["sync", "whole"]


# -- a full disk ------------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_on_the_way_costs_nothing_that_is_finished(tmp_path, reads, whole, monkeypatch):
    record(build("gpt2"), word_tokenizer(), TEXTS[:6], tmp_path, **(OPTIONS | {"corpus": "first"}))
    before = files_of(tmp_path)
    reads.clear()
    original, add, done = write_activations.Files.write, Journal.add, []

    def write(self, space, text, content):
        if len(done) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, space, text, content)

    with monkeypatch.context() as patch:
        patch.setattr(write_activations.Files, "write", write)
        patch.setattr(Journal, "add", lambda self, *line: done.append(line) or add(self, *line))
        with pytest.raises(OSError, match=r"disk is full.*needs [\d,]+ bytes.*4 of 6 batches .*--resume") as raised:
            record(build("gpt2"), word_tokenizer(), TEXTS[::-1], tmp_path, **OPTIONS)
    assert raised.value.errno == errno.ENOSPC
    now = files_of(tmp_path)
    assert {name: now[name] for name in before} == before
    reads.clear()
    record(build("gpt2"), word_tokenizer(), TEXTS[::-1], tmp_path, resume=True, **OPTIONS)
    assert len(reads) == BATCHES - 4
    assert validate(open_study(tmp_path)).problems == []


def test_too_little_room_is_an_error_before_anything_is_read(tmp_path, reads):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match=r"disk is full.*No partial results were saved.*--out"):
            record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path / "study", **OPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not reads
    assert not (tmp_path / "study").exists()


def test_a_file_system_that_reserves_by_writing_will_do(tmp_path, whole, monkeypatch):
    """Where the system knows no fallocate, its library reads and writes a byte in every block instead."""

    def by_hand(number, first, size):
        for place in range(first, first + size, 4096):
            os.pwrite(number, os.pread(number, 1, place) or b"\0", place)

    monkeypatch.setattr("os.posix_fallocate", by_hand)
    record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, **OPTIONS)
    assert files_of(tmp_path) == whole


def test_what_an_earlier_process_wrote_is_waited_for_too(tmp_path):
    def made():
        return write_activations.Files({tmp_path / "a": b"head"}, {tmp_path / "a": 100})

    made().create()
    again = made()
    assert again.create() == set()
    assert again._dirty == {tmp_path / "a"}


def test_a_file_system_that_reserves_nothing_will_do(tmp_path, whole, monkeypatch):
    def unknown(*arguments):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr("os.posix_fallocate", unknown)
    record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path, **OPTIONS)
    assert files_of(tmp_path) == whole


def test_the_error_names_the_bytes_of_the_images(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(
        write_activations.Files, "create", lambda self: (_ for _ in ()).throw(OSError(errno.EDQUOT, "quota"))
    )
    with pytest.raises(OSError, match="quota") as raised:
        record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path / "study", **OPTIONS)
    monkeypatch.undo()
    recording = record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path / "study", **OPTIONS)
    assert f"needs {4 * recording.n_volumes * recording.space.inside.size:,} bytes" in str(raised.value)


# -- one writer -------------------------------------------------------------------------------------------------------

HOLD = "import sys; from lmri import storage\nfrom pathlib import Path\n" + (
    "with storage.write_lock(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
)


def test_two_processes_do_not_write_at_once_and_one_that_was_killed_does_not_block(tmp_path, whole):
    root = tmp_path / "study"
    root.mkdir()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(root)], **pipes) as other:
        assert other.stdout.readline() == "held\n"
        with lock_wait(0), pytest.raises(StudyError, match="Another command is writing"):
            record(build("gpt2"), word_tokenizer(), TEXTS, root, **OPTIONS)
        other.kill()
        other.wait()
        record(build("gpt2"), word_tokenizer(), TEXTS, root, **OPTIONS)
    assert files_of(root) == whole


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_has_kept_and_goes_on(tmp_path, reads):
    texts = tmp_path / "news.txt"
    texts.write_text("\n".join(generate("news", 12, 3)))
    arguments = ["record", "lmri-demo", str(texts), "--out", str(tmp_path / "study"), "--batch-size", "2"]
    reads.stop_at = 2
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 130
    assert "2 of 5 batches are finished and were saved" in done.stderr
    assert "No partial results" not in done.stderr
    reads.stop_at = None
    done = CliRunner().invoke(app, [*arguments, "--resume", "--json"])
    assert done.exit_code == 0, done.output
    assert len(reads) == 5
    assert json.loads(done.stdout)["n_volumes"] == lmri.open_study(tmp_path / "study").recording().n_volumes
    done = CliRunner().invoke(app, [*arguments, "--site", "mlp_out", "--site", "mlp_hidden", "--json"])
    assert [one["site"] for one in json.loads(done.stdout)["recordings"]] == ["mlp_out", "mlp_hidden"]
    assert len(reads) == 10
