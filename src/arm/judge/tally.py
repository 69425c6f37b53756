"""Counts of a judge's questions, tokens and missing verdicts, and whether it stopped answering."""

from collections import Counter
from collections.abc import Mapping
from threading import Lock
from typing import Literal

MOST_MESSAGES = 8
"""At most so many messages of one kind of failure are counted apart: some endpoints number theirs."""


class Tally:
    """Counts of requests, tokens and missing verdicts (by reason), shared by threads."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self._lock = Lock()

    def count(self, what: Literal["requests", "cached", "asked_again"]) -> None:
        with self._lock:
            self.counts[what] += 1

    def spend(self, tokens: Mapping[str, int]) -> None:
        with self._lock:
            self.tokens.update(tokens)

    def miss(self, reason: str, message: str = "") -> None:
        """Counts a missing verdict. message: the endpoint's own, added to the first MOST_MESSAGES that differ."""
        with self._lock:
            known = [entry for entry in self.missing if entry.startswith(f"{reason}: ")]
            entry = f"{reason}: {message}" if message else reason
            self.missing[entry if entry in known or len(known) < MOST_MESSAGES else reason] += 1


class Outage:
    """Whether a judge stopped answering during one piece of work: `most` questions in a row failed, or met the
    same refusal.
    """

    def __init__(self, most: int) -> None:
        self._most, self._failed, self._answered = most, 0, 0
        self._refusal, self._same = "", 0
        self._reason: str | None = None
        self._lock = Lock()

    def answered(self) -> None:
        with self._lock:
            self._answered, self._failed, self._same = self._answered + 1, 0, 0

    def failed(self) -> None:
        with self._lock:
            self._failed += 1
            if self._failed >= self._most:
                self._end(f"the judge stopped answering after {self._answered:,} questions")

    def refused(self, reason: str) -> None:
        """One question was refused. The same reason for many is a property of the endpoint."""
        with self._lock:
            self._same = self._same + 1 if reason == self._refusal else 1
            self._refusal = reason
            if self._same >= self._most:
                self._end(f"{self._same:,} questions in a row met '{reason}'")

    def _end(self, reason: str) -> None:
        self._reason = self._reason or f"not asked, {reason}; the next run asks them alone"

    @property
    def reason(self) -> str | None:
        """Why nothing more is asked; None while the judge may be asked."""
        return self._reason
