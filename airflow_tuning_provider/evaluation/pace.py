"""How many questions may be under way: more by one a round while all is well, half as many after a refusal.

Additive increase, multiplicative decrease, as TCP has it (Chiu and Jain 1989). Quotas of newer models are shared and
move, so that no fixed rate is right; how many are under way bounds the rate by the time that answers take.
"""

from __future__ import annotations

from dataclasses import dataclass

DECREASE = 0.5
LONGEST_PAUSE = 60.0
SHORTEST_PAUSE = 1.0


@dataclass
class Pace:
    """The number of questions that may be under way. It has no clock: the caller gives the time in seconds.

    :param most: never more than this.
    :param limit: what may be under way now.
    :param resume_at: before this time nothing new is asked.
    :param refusals: refusals so far.
    """

    most: int
    limit: float = 4.0
    resume_at: float = 0.0
    refusals: int = 0
    _in_a_row: int = 0
    _decreased_at: float = float("-inf")

    def __post_init__(self) -> None:
        self.limit = min(self.limit, float(self.most))

    @property
    def window(self) -> int:
        """How many questions may be under way."""
        return max(1, int(self.limit))

    def answered(self, now: float) -> None:
        """Take note of an answer: after as many of them as may be under way, one more may be."""
        if now >= self.resume_at:
            self._in_a_row = 0
        self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def refused(self, now: float, *, asked_at: float, retry_after: float | None = None) -> None:
        """Take note of a refusal for lack of quota.

        :param asked_at: when the refused question was asked; those that were under way together count once.
        :param retry_after: seconds that the server asked to wait.
        """
        self.refusals += 1
        if asked_at >= self._decreased_at:
            self._decreased_at = now
            self.limit = max(1.0, self.limit * DECREASE)
            self._in_a_row += 1
        pause = (
            min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** min(self._in_a_row - 1, 16)) if self._in_a_row else 0.0
        )
        if retry_after is not None:
            pause = max(min(retry_after, LONGEST_PAUSE), SHORTEST_PAUSE / 10)
        self.resume_at = max(self.resume_at, now + pause)
