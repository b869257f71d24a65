"""Shards recorded by many processes and merged equal the recording of one process, byte by byte."""

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lmri
from lmri import merge, open_study, record, storage
from lmri.cli.app import app
from lmri.cli.record import parse_shard
from lmri.demo.texts import generate
from lmri.exceptions import AmbiguousChoiceError, StudyError
from lmri.models.recorder import cluster, write_activations
from lmri.report.validation import validate
from test_resume import files_of
from tiny_models import build, sentences, word_tokenizer

TEXTS = sentences(24, shortest=2, longest=12)
SITES = ["mlp_out", "mlp_hidden"]
OPTIONS = {"corpus": "words", "batch_size": 3, "run_tokens": 40, "site": SITES}
BATCHES = 6
N = 4


def shard(root, number, n_shards=N, texts=TEXTS, **options):
    assert record(build("gpt2"), word_tokenizer(), texts, root, shard=(number, n_shards), **(OPTIONS | options)) is None


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files that one process makes."""
    root = tmp_path_factory.mktemp("whole") / "study"
    record(build("gpt2"), word_tokenizer(), TEXTS, root, **OPTIONS)
    return files_of(root)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """A study with all shards, not merged; copied before it is changed."""
    root = tmp_path_factory.mktemp("sharded") / "study"
    for number in (3, 1, 4, 2):
        shard(root, number)
    return root


@pytest.fixture
def copy(sharded, tmp_path):
    return shutil.copytree(sharded, tmp_path / "study")


@pytest.fixture
def n_reads(monkeypatch):
    """List the forward passes."""
    found, original = [], write_activations.capture
    monkeypatch.setattr(write_activations, "capture", lambda *a: found.append(1) or original(*a))
    return found


def part(root, number):
    [folder] = open_study(root).unfinished()
    return folder / f"shard-{number:03d}"


def test_merged_shards_are_what_one_process_records(copy, whole, n_reads):
    assert open_study(copy).recordings() == []
    recordings = merge(copy)
    assert [one.space.site for one in recordings] == SITES
    assert files_of(copy) == whole
    assert not n_reads
    assert open_study(copy).unfinished() == []
    assert validate(open_study(copy)).problems == []


@pytest.mark.parametrize("n_shards", [1, 9])
def test_any_number_of_shards_is_the_same_also_more_than_batches(tmp_path, whole, n_shards, n_reads):
    for number in range(n_shards, 0, -1):
        shard(tmp_path, number, n_shards)
    assert len(n_reads) == BATCHES  # every batch is read by one shard
    merge(tmp_path)
    assert files_of(tmp_path) == whole


def test_shard_i_of_n_reads_every_nth_batch(sharded):
    for number in range(1, N + 1):
        lines = (part(sharded, number) / "journal.jsonl").read_text().splitlines()
        batches = [json.loads(line)["batch"] for line in lines if "batch" in json.loads(line)]
        assert batches == list(range(number - 1, BATCHES, N))


def test_padded_images_are_merged_right(tmp_path):
    model, options = build("gpt2", width=31, hidden=53, heads=1), {"corpus": "words", "batch_size": 4}
    record(model, word_tokenizer(), TEXTS, tmp_path / "one", **options)
    for number in (1, 2):
        record(model, word_tokenizer(), TEXTS, tmp_path / "two", shard=(number, 2), **options)
    assert merge(tmp_path / "two")[0].space.is_padded
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")


def test_a_whole_shard_is_not_recorded_again(copy, n_reads):
    before = files_of(copy)
    shard(copy, 2)
    assert not n_reads
    assert files_of(copy) == before


def test_shards_of_a_recording_that_is_there_do_nothing(copy, n_reads, whole):
    merge(copy)
    shard(copy, 2)
    assert not n_reads
    assert files_of(copy) == whole


# -- shards that are not whole ----------------------------------------------------------------------------------------


def test_missing_shards_are_listed_with_how_to_record_them_and_nothing_is_changed(copy):
    for number in (2, 4):
        shutil.rmtree(part(copy, number))
    before = files_of(copy)
    with pytest.raises(StudyError) as raised:
        merge(copy)
    message = str(raised.value)
    assert "2 of 4 shards of 'words' are incomplete" in message
    for number in (2, 4):
        assert f"--corpus words --site mlp_out --site mlp_hidden --shard {number}/4 --resume" in message
    assert "--shard 1/4" not in message
    assert files_of(copy).keys() - before.keys() == set()
    shard(copy, 2)
    with pytest.raises(StudyError, match=r"1 of 4 shards"):
        merge(copy)


def test_a_shard_that_was_interrupted_goes_on_and_is_not_merged_before(copy, whole, n_reads, monkeypatch):
    shutil.rmtree(part(copy, 1))
    original = write_activations.capture

    def stop(*arguments):
        if n_reads:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(write_activations, "capture", stop)
        with pytest.raises(KeyboardInterrupt, match="1 of 2 batches are finished and were saved"):
            shard(copy, 1)
    with pytest.raises(StudyError, match=r"shard 1/4 has 1 of 2 batches"):
        merge(copy)
    other = shutil.copytree(copy, copy.parent / "other")
    n_reads.clear()
    shard(copy, 1, resume=True)
    assert len(n_reads) == 1
    merge(copy)
    assert files_of(copy) == whole
    n_reads.clear()
    with pytest.raises(StudyError, match=r"Shard 1/4 of 'words' was interrupted; 1 finished batch was saved"):
        shard(other, 1)
    assert not n_reads
    shutil.rmtree(part(other, 1))  # as the message says
    shard(other, 1)
    assert len(n_reads) == 2
    merge(other)
    assert files_of(other) == whole


@pytest.mark.parametrize("how", ["cut", "changed"])
def test_a_damaged_shard_is_named_and_never_merged(copy, how, whole):
    [rows] = part(copy, 2).glob("*mlphidden*.bin")
    content = bytearray(rows.read_bytes())
    content[len(content) // 2] ^= 1
    rows.write_bytes(content if how == "changed" else content[:-4])
    with pytest.raises(StudyError, match=r"shard-002 is damaged.*Delete it, then run: lmri record .*--shard 2/4"):
        merge(copy)
    assert open_study(copy).recordings() == []
    shutil.rmtree(part(copy, 2))
    shard(copy, 2)
    merge(copy)
    assert files_of(copy) == whole


def test_a_table_that_is_gone_is_named(copy):
    next(part(copy, 1).glob("*_tokens.tsv")).unlink()
    with pytest.raises(StudyError, match=r"_tokens.tsv is missing: delete .*shard-001, then run"):
        merge(copy)


# -- other plans ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"texts": TEXTS[:-1]}, "another plan: other texts"),
        ({"batch_size": 2}, "batch_size was 3 and is 2"),
        ({"n_shards": 3}, "begun in 4 shards, not 3"),
    ],
)
def test_a_shard_of_another_plan_is_refused(copy, changed, message):
    shutil.rmtree(part(copy, 2))
    before = files_of(copy)
    with pytest.raises(StudyError, match=message):
        shard(copy, 2, **changed)
    assert files_of(copy) == before


def test_a_part_that_was_copied_from_another_plan_is_refused(copy, tmp_path):
    shard(tmp_path / "other", 2, batch_size=2)
    shutil.rmtree(part(copy, 2))
    shutil.copytree(part(tmp_path / "other", 2), part(copy, 2))
    with pytest.raises(StudyError, match=r"shard-002 belongs to another plan: delete it, then run"):
        merge(copy)


def test_texts_that_have_changed_sides_since_are_refused(copy):
    record(build("gpt2"), word_tokenizer(), TEXTS, copy, **(OPTIONS | {"corpus": "other", "seed": 5}))
    with pytest.raises(StudyError, match=r"texts of 'words' \(first: words-\d+\) are on the other side of the train"):
        merge(copy)


@pytest.mark.parametrize("wrong", [(0, 4), (5, 4), (1, 0)])
def test_invalid_shards_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"shard is {wrong[0]}/{wrong[1]}"):
        record(build("gpt2"), word_tokenizer(), TEXTS, tmp_path / "study", shard=wrong)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("wrong", ["3", "0/4", "5/4", "a/4", "3/4/5", "-1/4"])
def test_invalid_shards_are_refused_by_the_command(wrong):
    with pytest.raises(ValueError, match="--shard is"):
        parse_shard(wrong)


# -- merging ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["_copy", "write_recording_site", "write_recording_index", "discard"])
def test_a_merge_that_was_interrupted_keeps_the_shards_and_is_made_again(copy, whole, monkeypatch, where):
    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"lmri.models.recorder.{'merging' if where == '_copy' else 'finalize'}.{where}", stop)
        with pytest.raises(KeyboardInterrupt):
            merge(copy)
    assert part(copy, 1).is_dir()
    merge(copy)
    assert files_of(copy) == whole


def test_a_merge_without_room_keeps_the_shards_and_says_so(copy, whole, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lmri.models.recorder.files.Files.write", full)
        with pytest.raises(OSError, match=r"disk is full.*All shards are kept: run lmri merge again after freeing"):
            merge(copy)
    merge(copy)
    assert files_of(copy) == whole


def test_shards_go_only_when_the_index_is_there(copy, monkeypatch):
    from lmri.models.recorder import finalize

    seen, original = [], finalize.discard

    def look(folder):
        seen.append([recording.space.site for recording in open_study(copy).recordings()])
        original(folder)

    monkeypatch.setattr(finalize, "discard", look)
    merge(copy)
    assert seen == [sorted(SITES)]


def test_shards_of_several_recordings_are_chosen_by_name(copy, tmp_path):
    with pytest.raises(AmbiguousChoiceError, match="There are no shards of the corpus 'nothing'"):
        merge(copy, corpus="nothing")
    shard(copy, 1, 1, corpus="more", texts=sentences(5, seed=9))
    with pytest.raises(AmbiguousChoiceError, match=r"several shards, and none was chosen.* more \(.* words \("):
        merge(copy)
    assert [one.corpus for one in merge(copy, corpus="more")] == ["more", "more"]
    merge(copy)
    with pytest.raises(AmbiguousChoiceError, match="no shards yet"):
        merge(copy)


def test_one_shard_is_one_process_and_others_go_on(copy, whole):
    shutil.rmtree(part(copy, 1))
    [folder] = open_study(copy).unfinished()
    with storage.locked(folder / "shard-002.lock", "held"):
        shard(copy, 1)
        with pytest.raises(StudyError, match="Shard 2/4 of 'words' is being recorded by another process"):
            shard(copy, 2)
        with pytest.raises(StudyError, match="Shard 2/4 of 'words' is still being recorded"):
            merge(copy)
    merge(copy)
    assert files_of(copy) == whole


def test_merging_loads_no_torch(copy, whole):
    code = "import sys, lmri; lmri.merge(sys.argv[1]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(copy)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert files_of(copy) == whole


# -- commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def news(tmp_path_factory):
    """Texts of the embedded model, and the study that one process makes of them."""
    home = tmp_path_factory.mktemp("news")
    (home / "news.txt").write_text("\n".join(generate("news", 16, 3)))
    done = command("record", "lmri-demo", home / "news.txt", "--out", home / "study", "--batch-size", 2)
    assert done.exit_code == 0, done.output
    return home


def command(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_the_commands_record_shards_and_merge_them(news, tmp_path):
    arguments = ("record", "lmri-demo", news / "news.txt", "--out", tmp_path, "--batch-size", 2)
    first = command(*arguments, "--shard", "1/2")
    assert first.exit_code == 0, first.output
    assert "Shard 1/2 of texts is recorded. After recording all shards, run: lmri merge" in first.output
    early = command("merge", tmp_path)
    assert early.exit_code == 1
    assert "lmri record lmri-demo TEXTS" in early.stderr
    assert command(*arguments, "--shard", "2/2").exit_code == 0
    done = command("merge", tmp_path, "--json")
    assert json.loads(done.stdout)["n_texts"] == 16
    assert files_of(tmp_path) == files_of(news / "study")
    both = command(*arguments, "--shard", "2/2", "--scheduler", "tcp://127.0.0.1:1")
    assert "a cluster records all shards" in both.stderr


# -- a cluster --------------------------------------------------------------------------------------------------------


def test_without_dask_the_error_says_how_to_install_it(news, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'lmri\[distributed\]'"):
        cluster.record_on_cluster("tcp://127.0.0.1:1", "lmri-demo", ["a text"], tmp_path)
    done = command("record", "lmri-demo", news / "news.txt", "--out", tmp_path, "--scheduler", "tcp://127.0.0.1:1")
    assert done.exit_code == 1
    assert "pip install 'lmri[distributed]'" in done.stderr


def die_once(marker):
    """Let this worker process be killed at its second batch, unless one was before."""
    import os
    import signal

    from lmri.models.recorder import write_activations

    original, seen = write_activations.capture, []

    def capture(*arguments):
        seen.append(1)
        if len(seen) == 2 and not Path(marker).exists():
            Path(marker).write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    write_activations.capture = capture


@pytest.mark.slow
def test_a_cluster_of_which_a_worker_is_killed_records_what_one_process_records(news, tmp_path):
    distributed = pytest.importorskip("distributed")
    marker, out, told = tmp_path / "killed", tmp_path / "study", []
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as local,
        distributed.Client(local) as client,
    ):
        client.run(die_once, str(marker))
        recordings = lmri.record_on_cluster(
            local.scheduler_address,
            "lmri-demo",
            news / "news.txt",
            out,
            n_shards=3,
            batch_size=2,
            progress=lambda *counts: told.append(counts),
        )
        arguments = ("--out", tmp_path / "by-command", "--batch-size", 2, "--scheduler", local.scheduler_address)
        done = command("record", "lmri-demo", news / "news.txt", *arguments, "--json")
        with pytest.raises(StudyError, match=r"1 of 1 shards failed .*site is 'nothing'"):
            lmri.record_on_cluster(
                local.scheduler_address, "lmri-demo", news / "news.txt", out, n_shards=1, site="nothing", corpus="no"
            )
    assert marker.is_file()  # one was killed
    assert told[-1] == (3, 3)
    assert [one.corpus for one in recordings] == ["texts"]
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n_texts"] == 16
    assert files_of(out) == files_of(news / "study") == files_of(tmp_path / "by-command")


def test_a_missing_scheduler_is_reported(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "_TIMEOUT", "1s")
    with pytest.raises(OSError, match=r"No Dask scheduler answers at 'tcp://127.0.0.1:9'"):
        cluster.record_on_cluster("tcp://127.0.0.1:9", "lmri-demo", ["a text"], tmp_path)
