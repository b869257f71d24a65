"""The log of a study: the only file with times, hosts and absolute paths. No result depends on it."""

import contextlib
import json
import platform
import time
from typing import Any

from lmri.storage.layout import Layout


def write_log(layout: Layout, event: str, **details: Any) -> None:
    """Append an event to the log of the study, with the scope of the layout."""
    layout.log.parent.mkdir(parents=True, exist_ok=True)
    about = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "host": platform.node(), "scope": layout.scope}
    line = json.dumps({**about, "event": event, **details}, ensure_ascii=False) + "\n"
    # One write in append mode, so that lines of commands that run at once are not mixed.
    with layout.log.open("ab", buffering=0) as stream:
        stream.write(line.encode())


def read_log(layout: Layout) -> list[dict[str, Any]]:
    """Read the events of the study's log, oldest first; an incomplete last line is skipped."""
    if not layout.log.is_file():
        return []
    lines = []
    for line in layout.log.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            lines.append(json.loads(line))
    return lines
