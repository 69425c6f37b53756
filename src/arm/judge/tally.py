"""What asking a judge took, why verdicts are missing, and whether it stopped answering."""

from collections import Counter
from collections.abc import Mapping
from threading import Lock
from typing import Literal

MOST_WORDS = 8
"""So many different messages of one kind of failure are counted apart; some endpoints number theirs."""


class Tally:
    """What asking cost, and why verdicts are missing; counted by many threads."""

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

    def miss(self, why: str, words: str = "") -> None:
        """words: of the endpoint, told beside `why` for the first MOST_WORDS that differ."""
        with self._lock:
            known = [told for told in self.missing if told.startswith(f"{why}: ")]
            told = f"{why}: {words}" if words else why
            self.missing[told if told in known or len(known) < MOST_WORDS else why] += 1


class Outage:
    """Whether a judge stopped answering, in one call's own eyes: `most` questions in a row failed, or met
    one and the same refusal.
    """

    def __init__(self, most: int) -> None:
        self._most, self._failed, self._answered = most, 0, 0
        self._refused, self._alike = "", 0
        self._reason: str | None = None
        self._lock = Lock()

    def answered(self) -> None:
        with self._lock:
            self._answered, self._failed, self._alike = self._answered + 1, 0, 0

    def failed(self) -> None:
        with self._lock:
            self._failed += 1
            if self._failed >= self._most:
                self._end(f"the judge stopped answering after {self._answered:,} questions")

    def refused(self, why: str) -> None:
        """One question; the same `why` to many is of the endpoint."""
        with self._lock:
            self._alike = self._alike + 1 if why == self._refused else 1
            self._refused = why
            if self._alike >= self._most:
                self._end(f"{self._alike:,} questions in a row met '{why}'")

    def _end(self, why: str) -> None:
        self._reason = self._reason or f"not asked, {why}; the next run asks them alone"

    @property
    def reason(self) -> str | None:
        """Why nothing more is asked; None while the judge may be asked."""
        return self._reason
