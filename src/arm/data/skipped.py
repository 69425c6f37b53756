"""What could not be used, and why: named in a file, counted, and no reason for a run to die."""

import json
import os
import threading
from pathlib import Path
from typing import Any

SKIPPED = "skipped.jsonl"
"""What the file is called; it may lie in a folder of data and is never read as records."""


class Skipped:
    """Items left out, once each, as lines {"where": ..., "reason": ...} of a file.

    Threads and processes may share the file: a line is one write at its end. Two processes that meet
    the same item at the same moment may both write it; it still counts once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._read = 0

    def __len__(self) -> int:
        """How many items were left out so far, by any process."""
        with self._lock:
            self._refresh()
            return len(self._seen)

    def __contains__(self, where: str) -> bool:
        with self._lock:
            return where in self._seen

    def add(self, where: str, reason: str) -> None:
        """Notes an item, unless the file has it."""
        with self._lock:
            self._refresh()
            if where in self._seen:
                return
            self._seen.add(where)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = json.dumps({"where": where, "reason": reason}, ensure_ascii=False) + "\n"
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            file = os.open(self.path, flags, 0o644)
            try:
                # Half a character, as in a file's name that is not UTF-8, becomes its JSON escape.
                os.write(file, line.encode("utf-8", "backslashreplace"))
            finally:
                os.close(file)

    def _refresh(self) -> None:
        """Reads the lines that were added since; a last line that is still being written waits."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                try:
                    self._seen.add(json.loads(line)["where"])
                except (ValueError, LookupError, TypeError):
                    continue  # a line cut by a full disk or a killed process

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])


def without_place(where: str, error: Exception) -> str:
    """An error's words without the place that they begin with."""
    return str(error).removeprefix(where).lstrip(": ")
