"""`python -m components.serve route`: studies that arrive are answered once each, and the reports sent back."""

from __future__ import annotations

import hashlib
import io
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import pydicom

from components.cxr.errors import UserError
from components.serve.route_ends import Ends
from components.serve.route_errors import NoAnswerError, UnavailableError, VanishedError
from components.serve.route_report import make_report
from components.serve.route_sources import FilmPlace
from components.serve.route_state import Done, RouteState
from components.serve.schemas import Limits

__all__ = ["route"]

_TRIES = 5
"""Of a study that a server which is up fails on."""
_UNASKED = ("no-film", "study-vanished", "film-too-large")
"""Why a study has no answer without the server's word."""
_MOST_DELAY_S = 15.0
_LINE_S = 5.0


class _Later(NamedTuple):
    """A study that waits on."""

    why: UnavailableError | None
    """None while it still grows."""


def route(
    ends: Ends, state: RouteState, *, num_parallel: int, once: bool, poll_s: float = 1.0, patience_s: float = 300.0
) -> None:
    """Answer what arrives until the process is stopped, or with `once` until nothing waits.

    A report is written down before it is sent, so that a kill in between sends the very same again, and what is done
    is written down after.

    Args:
        num_parallel: studies at a time.
        poll_s: seconds between two looks at the source.
        patience_s: seconds for which the server or the PACS may be silent.

    Raises:
        UserError: no server or PACS, one that refuses the credentials, or one that is silent for too long.
    """
    limits = ends.server.limits()
    stopping = threading.Event()
    router = _Router(ends, state, poll_s=poll_s, patience_s=patience_s)
    pool = ThreadPoolExecutor(num_parallel)
    flying: dict[Future[Done | _Later | None], tuple[str, int]] = {}
    try:
        while True:
            whole = router.look()
            busy = {study for study, _ in flying.values()}
            for study in router.due(busy, most=num_parallel - len(flying)):
                known = state.done(study)
                future = pool.submit(_answered, ends, state, limits, study, known, stopping)
                flying[future] = study, state.waiting[study]
            router.collect(flying, wait(flying, poll_s, FIRST_COMPLETED).done if flying else set())
            router.tell()
            if once and whole and not flying and not state.waiting:
                break
            if not flying and not router.due(set(), most=1):
                time.sleep(poll_s / 4 if router.behind else poll_s)
    finally:
        stopping.set()
        pool.shutdown(cancel_futures=True)
        router.collect(flying, {future for future in flying if not future.cancelled() and not future.exception()})
        router.tell(last=True)


class _Router:
    """What the loop remembers between two rounds."""

    def __init__(self, ends: Ends, state: RouteState, *, poll_s: float, patience_s: float) -> None:
        self._source, self._state, self._poll_s, self._patience_s = ends.source, state, poll_s, patience_s
        self._looked = self._told = float("-inf")
        self._not_before: dict[str, float] = {}
        self._tries: Counter[str] = Counter()
        self._fails: Counter[str] = Counter()
        self._silent_since: dict[str, float] = {}
        self._line = ""
        self.behind = False
        """Whether there is more in the source than was taken over."""

    def look(self) -> bool:
        """Take over what has arrived; whether that is all that there is."""
        now = time.monotonic()
        if now - self._looked < self._poll_s and not self.behind:
            return False
        self._looked = now
        try:
            studies, seen, whole = self._source.arrived(self._state.seen)
        except UnavailableError as error:
            self._failed(error)
            return False
        self._heard("source")
        if studies or seen != self._state.seen:
            self._state.add(studies, seen=seen)
        self.behind = not whole
        return whole

    def due(self, busy: set[str], *, most: int) -> list[str]:
        """The first studies that can be looked at now."""
        now = time.monotonic()
        found: list[str] = []
        for study in self._state.waiting:
            if len(found) >= most:
                break
            if study not in busy and self._not_before.get(study, 0.0) <= now:
                found.append(study)
        return found

    def collect(
        self, flying: dict[Future[Done | _Later | None], tuple[str, int]], finished: set[Future[Done | _Later | None]]
    ) -> None:
        """Write down what became of studies."""
        for future in finished:
            outcome, (study, news) = future.result(), flying.pop(future)
            if isinstance(outcome, _Later):
                if (ended := self._later(study, outcome)) is None:
                    continue
                outcome = ended
            elif outcome is not None and outcome.reason not in _UNASKED:
                self._heard("server")
                if outcome.reason in (None, "report-refused"):
                    self._heard("pacs")
            if outcome is not None and outcome.reason is not None:
                print(f"route: no answer to a study: {outcome.reason}", file=sys.stderr, flush=True)
            self._state.finish(study, outcome, news=news)
            self._not_before.pop(study, None)
            self._tries.pop(study, None)

    def _later(self, study: str, outcome: _Later) -> Done | None:
        """When to look again; or the end of trying."""
        delay = self._poll_s
        if (error := outcome.why) is not None:
            self._tries[study] += 1
            if error.is_up and self._tries[study] >= _TRIES:
                return Done("", f"{error.who}-fails", None)
            if not error.is_up:
                self._failed(error)
            delay = min(_MOST_DELAY_S, self._poll_s * 2 ** (min(self._tries[study], 10) - 1))
        self._not_before[study] = time.monotonic() + delay
        return None

    def _failed(self, error: UnavailableError) -> None:
        now = time.monotonic()
        since = self._silent_since.setdefault(error.who, now)
        if since == now:
            print(f"route: the {error.who} does not answer ({error.found}); studies wait", file=sys.stderr, flush=True)
        if now - since > self._patience_s:
            raise UserError(
                f"{error.who}-silent",
                f"the {error.who} did not answer for {self._patience_s:g} s",
                found=error.found,
                remedy="Start it and run the same command again; what is finished is kept.",
            )

    def _heard(self, who: str) -> None:
        if self._silent_since.pop(who, None) is not None:
            print(f"route: the {who} answers again", file=sys.stderr, flush=True)

    def tell(self, *, last: bool = False) -> None:
        """One line of how far it is, when that has changed."""
        now = time.monotonic()
        if not last and now - self._told < _LINE_S:
            return
        self._told = now
        counts = self._state.counts()
        others = ", ".join(f"{count} {reason}" for reason, count in counts.most_common() if reason != "answered")
        line = f"route: {counts['answered']} studies answered, {len(self._state.waiting)} waiting"
        line += f"; without an answer: {others}" if others else ""
        films = ", ".join(f"{count} {reason}" for reason, count in self._state.left_out().most_common())
        line += f"; films left out of answers: {films}" if films else ""
        if line != self._line:
            self._line = line
            print(line, file=sys.stderr, flush=True)


def _hashes(films: Sequence[FilmPlace]) -> str:
    whole, *each = ("\0".join(film.uid for film in films), *(film.uid for film in films))
    return " ".join([_hash(whole), *(_hash(uid)[:16] for uid in each)])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_answered(known: Done, films: str) -> bool:
    """Whether nothing came of these films since: they are the same, or some of those that were answered."""
    whole, *each = films.split()
    before = known.films.split()
    return whole in before[:1] or (known.reason is None and set(each) <= set(before[1:]))


def _answered(
    ends: Ends, state: RouteState, limits: Limits, study: str, known: Done | None, stopping: threading.Event
) -> Done | _Later | None:
    """What becomes of a study; None where nothing is new about it."""
    films = ""
    try:
        found = ends.source.films(study)
        if found is None:
            return _Later(None)
        films = _hashes(found)
        if known is not None and _is_answered(known, films):
            return None
        if not found:
            raise NoAnswerError("no-film")
        report = state.report_under_way(study, films)
        if report is None:
            report = make_report(ends, limits, found)
            state.keep_report(study, films, report)
        if stopping.is_set():
            return _Later(None)
        ends.source.films(study)  # a report alone would bring a study back that was deleted
        ends.sink.send(report.file)
        uid = pydicom.dcmread(io.BytesIO(report.file), specific_tags=["SOPInstanceUID"]).SOPInstanceUID
        return Done(films, None, str(uid), report.left_out)
    except VanishedError as error:
        return None if known is not None else Done("", error.reason, None)
    except NoAnswerError as error:
        return Done(films, error.reason, None)
    except UnavailableError as error:
        return _Later(error)
