"""Text files of users: their encoding, lines and fields, with the line number of every record.

All files that users write pass through this module, so that a file has the same lines in every command. A line ends
with LF or CRLF, or with CR if the file has no LF; other separators of Unicode, such as U+2028, are part of the text.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

# UTF-32 first, because its mark begins with the mark of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF8: "utf-8",
    b"": "utf-8",
}

_ZERO = "contains a zero byte: the file is UTF-16 without a byte-order mark, or not a text file. Save it as UTF-8."

Record = tuple[int, list[str]]
"""Number of the line on which a record begins, and its fields."""


@dataclass(frozen=True)
class TextFile:
    """Decoded content of a text file.

    Parameters
    ----------
    path : Path
        Path of the file, for messages.
    text : str
        Content without its byte-order mark.
    """

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> "TextFile":
        """Read a file in UTF-8, or in UTF-16 or UTF-32 with a byte-order mark.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file has another encoding.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist. Check the path.")
        content = path.read_bytes()
        mark = next(mark for mark in _MARKS if content.startswith(mark))
        if _MARKS[mark] == "utf-8" and b"\0" in content:
            raise _refusal(path, content.count(b"\n", 0, content.index(b"\0")) + 1, _ZERO)
        body, encoding = content[len(mark) :], _MARKS[mark]
        try:
            file = cls(path, body.decode(encoding))
        except UnicodeDecodeError as error:
            line = body[: error.start].decode(encoding).count("\n") + 1
            wrong = body[error.start : error.end].hex(" ")
            raise _refusal(
                path, line, f"contains the bytes {wrong}, which are not {encoding.upper()} ({error.reason}). Save the "
                "file as UTF-8.",
            ) from error  # fmt: skip
        if "\0" in file.text:
            raise file.refusal(file.text.count("\n", 0, file.text.index("\0")) + 1, _ZERO)
        return file

    def refusal(self, line: int, problem: str) -> ValueError:
        """Create the error for a problem in a line."""
        return _refusal(self.path, line, problem)

    @cached_property
    def line_end(self) -> str:
        """Character that ends a line, after an optional CR."""
        return "\r" if "\r" in self.text and "\n" not in self.text else "\n"

    @property
    def n_lines(self) -> int:
        """Number of lines, also of those within quoted fields."""
        return self.text.count(self.line_end) + bool(self.text and not self.text.endswith(self.line_end))

    def lines(self) -> list[str]:
        """Split the content into lines.

        Raises
        ------
        ValueError
            If some lines end with LF, and others contain a CR.
        """
        lines = self.text.split(self.line_end)
        if not lines[-1]:
            lines.pop()
        if self.line_end == "\n" and "\r" in self.text:
            lines = [line.removesuffix("\r") for line in lines]
            for number, line in enumerate(lines, start=1):
                if "\r" in line:
                    raise self._lone_return(number)
        return lines

    def plain_records(self, separator: str) -> list[Record]:
        """Split every line at the separator; quotation marks are characters like any other."""
        return [(number, line.split(separator)) for number, line in enumerate(self.lines(), start=1)]

    def quoted_records(self, separator: str) -> Iterator[Record]:
        """Split the content into the records of RFC 4180.

        A field that begins with a quotation mark ends with the next one that is not doubled, and may contain separators
        and line ends. In other fields quotation marks are characters like any other. A space before the opening mark of
        a field is refused, except in tables separated by tabs.

        Parameters
        ----------
        separator : str
            Separator of fields, one character.

        Raises
        ------
        ValueError
            If a quoted field does not end, or is followed by other characters than a separator or a line end.
        """
        # Possessive quantifiers, so that an unfinished field is not scanned once per quotation mark.
        field = re.compile(rf'"((?:[^"]++|"")*+)"|[^{re.escape(separator)}\r\n]*+')
        text, position, line = self.text, 0, 1
        first, fields = line, list[str]()
        while position < len(text) or fields:  # after a separator at the end of the text there is one more field
            match = field.match(text, position)
            if match is None or (match[1] is None and match[0].startswith('"')):
                raise self.refusal(line, "begins a quoted field that does not end. Close it, or double its marks.")
            if separator != "\t" and match[1] is None and match[0].lstrip(" ").startswith('"'):
                raise self.refusal(line, "has a space before an opening quotation mark. Remove the space.")
            fields.append(match[0] if match[1] is None else match[1].replace('""', '"'))
            opened, line = line, line + match[0].count(self.line_end)
            position = match.end()
            if text.startswith(separator, position):
                position += 1
                continue
            end = _END_OF_RECORD.match(text, position)
            if end is None:
                raise self.refusal(
                    line, f"has {text[position : position + 20]!r} after the quotation mark that closes the field of "
                    f"line {opened}. Close the field before, or double the marks within it.",
                )  # fmt: skip
            if end[0] == "\r" and self.line_end == "\n" and end.end() < len(text):
                raise self._lone_return(line)
            yield first, fields
            position, line = end.end(), line + 1
            first, fields = line, []

    def _lone_return(self, line: int) -> ValueError:
        return self.refusal(
            line, "contains a carriage return (CR), while other lines end with LF, so it may be one line or two. "
            "Save the file with one kind of line end.",
        )  # fmt: skip


_END_OF_RECORD = re.compile(r"\r\n|\r|\n|\Z")


def _refusal(path: Path, line: int, problem: str) -> ValueError:
    kind = path.suffix[1:].upper() or "text"
    return ValueError(f"{path} cannot be read as {kind}: line {line} {problem}")
