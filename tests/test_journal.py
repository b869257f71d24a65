"""Checksums of batches detect data that did not reach the disk or were changed."""

from hypothesis import given
from hypothesis import strategies as st

from lmri.models.recorder.journal import checksum

contents = st.integers(0, 3 * 4096 + 9).flatmap(
    lambda n: st.builds(lambda seed: bytes((i * seed + i // 251) % 256 for i in range(n)), st.integers(1, 255))
)


@given(contents.filter(len), st.data())
def test_a_byte_that_changed_is_seen(content, data):
    place = data.draw(st.integers(0, len(content) - 1))
    other = bytearray(content)
    other[place] ^= data.draw(st.integers(1, 255))
    assert checksum(bytes(other)) != checksum(content)


@given(contents.filter(len), st.data())
def test_what_never_reached_the_disk_is_seen(content, data):
    start = data.draw(st.integers(0, len(content) - 1))
    hole = content[:start] + bytes(len(content[start : start + 4096])) + content[start + 4096 :]
    assert (checksum(hole) == checksum(content)) == (hole == content)
    assert checksum(content[:start]) != checksum(content)


@given(contents, contents)
def test_parts_of_a_batch_count_in_their_order(first, second):
    both = checksum(second, checksum(first))
    assert both == checksum(memoryview(bytearray(second)), checksum(memoryview(bytearray(first))))
    if first + second != second + first:
        assert both != checksum(first, checksum(second))
