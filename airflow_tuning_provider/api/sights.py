"""What a page of a list tells somebody who waits for some jobs: which of them it shows, and what is new of them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Board:
    """What is waited for, and what is known of it; both may change while a page is under way.

    :param waiting: the last parts of the jobs' names (``tuningJobs/ID``): a project has an id and a number, and the
        API may answer with another one than it was asked for.
    :param known: the states in which there is nothing to tell of a job, by the same parts.
    """

    waiting: Container[str]
    known: Mapping[str, str]


@dataclass
class Sights:
    """What a page shows.

    :param token: token of the next page, ``None`` at the end.
    :param seen: the jobs of the board that are on the page.
    :param news: those of them that are in another state than the known one, as the API's JSON.
    """

    token: str | None
    seen: set[str] = field(default_factory=set)
    news: list[tuple[str, Json]] = field(default_factory=list)

    def is_new(self, board: Board, resource: str, state: str) -> bool:
        """Take note that the page shows a job; return whether that is news. A second time it never is.

        :param board: what is waited for, and known.
        :param resource: the last part of the job's name.
        :param state: its state on the page.
        """
        if resource not in board.waiting or resource in self.seen:
            return False
        self.seen.add(resource)
        return board.known.get(resource) != state


def resource_of(name: str) -> str:
    """Return the last part of a job's name, which tells it apart in its project and location."""
    return "tuningJobs/" + name.rpartition("/")[2]


def sights(jobs: Iterable[Json], token: str | None, board: Board) -> Sights:
    """Compare a page with what is known.

    :param jobs: the page's jobs, checked.
    :param token: token of the next page.
    :param board: what is waited for.
    """
    found = Sights(token)
    for job in jobs:
        resource = resource_of(job["name"])
        if found.is_new(board, resource, job["state"]):
            found.news.append((resource, job))
    return found
