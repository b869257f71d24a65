"""Direct writes past the page cache have the same bytes as plain writes, even if the system refuses them."""

import errno
import os

import numpy as np
import pytest

from lmri import record
from lmri.models.recorder import direct_io, files
from lmri.models.recorder.direct_io import DirectWriter
from test_resume import OPTIONS, TEXTS, files_of
from tiny_models import build, word_tokenizer

BLOCK, ENOUGH = direct_io._BLOCK, direct_io._WORTH_IT

needs_direct = pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this system writes plainly only")


@pytest.fixture
def past_memory(monkeypatch, tmp_path):
    """List the ranges that were written past the page cache: (first byte, bytes written)."""
    try:
        os.close(os.open(tmp_path / "asked", os.O_CREAT | os.O_WRONLY | os.O_DIRECT))
    except (OSError, AttributeError):
        pytest.skip("this file system writes plainly only")
    (tmp_path / "asked").unlink()
    found, pwrite = [], os.pwrite

    def noted(number, content, place):
        found.append((place, pwrite(number, content, place)))
        return found[-1][1]

    monkeypatch.setattr(os, "pwrite", noted)
    return found


def written(path, first, n_bytes, writer=None):
    """Write into the middle of a file; return the file and its expected content."""
    rng = np.random.default_rng(n_bytes)
    before = rng.bytes(first + n_bytes + 5000)
    content = rng.bytes(n_bytes)
    path.write_bytes(before)
    (writer or DirectWriter()).write(path, first, memoryview(content))
    return before[:first] + content + before[first + n_bytes :]


@needs_direct
@pytest.mark.parametrize("first", [0, 352, BLOCK - 1, BLOCK, 3 * BLOCK + 544])
@pytest.mark.parametrize(
    "n_bytes",
    [ENOUGH, ENOUGH + BLOCK - 1, ENOUGH + 2 * BLOCK + 7, direct_io._AT_ONCE + 1, 2 * direct_io._AT_ONCE + 36_864],
)
def test_the_bytes_are_those_of_plain_writes(tmp_path, past_memory, first, n_bytes):
    expected = written(tmp_path / "image", first, n_bytes)
    assert (tmp_path / "image").read_bytes() == expected
    for place, size in past_memory:
        assert place % BLOCK == size % BLOCK == 0
        assert first <= place
        assert place + size <= first + n_bytes
    whole_blocks = (first + n_bytes) // BLOCK - -(-first // BLOCK)
    assert sum(size for _, size in past_memory) == (whole_blocks * BLOCK if whole_blocks * BLOCK >= ENOUGH else 0)


@pytest.mark.parametrize("n_bytes", [0, 1, BLOCK, ENOUGH - 1])
def test_small_arrays_are_written_without_direct_io(tmp_path, past_memory, n_bytes):
    assert written(tmp_path / "image", 352, n_bytes) == (tmp_path / "image").read_bytes()
    assert past_memory == []


@needs_direct
def test_a_file_system_that_refuses_is_asked_once(tmp_path, monkeypatch):
    asked, opened = [], os.open

    def refuse(path, flags, *rest, **more):
        if flags & os.O_DIRECT:
            asked.append(path)
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    writer = DirectWriter()
    for name in ("a", "b"):
        assert written(tmp_path / name, 352, 2 * ENOUGH, writer) == (tmp_path / name).read_bytes()
    assert asked == [tmp_path / "a"]


@needs_direct
@pytest.mark.parametrize("short", [0, 1000, BLOCK, 5 * BLOCK + 1])
def test_partial_writes_are_continued(tmp_path, monkeypatch, short):
    pwrite = os.pwrite

    def part(number, content, place):
        pwrite(number, content[: short // BLOCK * BLOCK], place)
        return short  # what lies behind the last whole block of it must come once more

    monkeypatch.setattr(os, "pwrite", part)
    assert written(tmp_path / "image", 352, 2 * ENOUGH) == (tmp_path / "image").read_bytes()


@needs_direct
def test_a_full_disk_is_an_error_here_too(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path / "image", 352, 2 * ENOUGH)


def test_a_file_that_is_gone_is_an_error_and_not_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        DirectWriter().write(tmp_path / "image", 352, bytes(2 * ENOUGH))
    assert not list(tmp_path.iterdir())


@needs_direct
def test_a_recording_is_the_same_past_the_memory_and_through_it(tmp_path, past_memory, monkeypatch):
    model = build("gpt2", hidden=2048)  # several blocks a text

    def recorded(name):
        record(model, word_tokenizer(), TEXTS, tmp_path / name, site="mlp_hidden", **OPTIONS)
        return files_of(tmp_path / name)

    monkeypatch.setattr(direct_io, "_WORTH_IT", 1)
    through = recorded("through")
    assert past_memory == []  # small ones stay in memory
    monkeypatch.setattr(files, "LARGE", 0)
    assert recorded("past") == through
    assert past_memory
