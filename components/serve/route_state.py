"""What the router has done: one SQLite file, so that a kill at any time costs nothing and answers nothing twice."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, NamedTuple

from components.cxr.errors import UserError
from components.cxr.storage.atomic import PARTIAL
from components.serve.route_ends import write_whole

__all__ = ["Done", "Report", "RouteState"]

_TABLES = """
CREATE TABLE IF NOT EXISTS waiting (study TEXT PRIMARY KEY, news INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS done (
    study TEXT PRIMARY KEY, films TEXT NOT NULL, reason TEXT, report TEXT, left_out TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS place (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_REASONS = """
SELECT study, reason FROM done WHERE reason IS NOT NULL UNION SELECT study, key FROM done, json_each(left_out)
"""
"""Of studies without an answer, and of films left out of one."""
_SEEN = "seen"


class Done(NamedTuple):
    """What became of a study."""

    films: str
    """Hash of the films that it had, and behind it one of each; empty where there was none."""
    reason: str | None
    """Why there is no answer; None where there is one."""
    report: str | None
    """SOP Instance UID of what was sent."""
    left_out: Mapping[str, int] = MappingProxyType({})
    """Films that this is not on, by reason."""


class Report(NamedTuple):
    """What is sent."""

    file: bytes
    """A structured report."""
    left_out: dict[str, int]
    """Films that it is not on, by reason."""


class RouteState:
    """A folder with what waits, what is done, and the reports that are under way.

    Args:
        folder: made if it is not there; reports hold what films say of the patient, so their folder is its owner's.
        source: what the studies come from; a folder of another source is refused.

    Raises:
        UserError: a folder of another source, another router there, or one that cannot be written.
    """

    def __init__(self, folder: Path, *, source: str) -> None:
        self._reports = folder / "under-way"
        try:
            self._reports.mkdir(parents=True, exist_ok=True)
            self._reports.chmod(0o700)
            self._lock: IO[bytes] = (folder / "lock").open("ab")
        except OSError as error:
            raise UserError("cannot-write", "cannot keep the state", where=folder, found=error.strerror) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UserError(
                "state-in-use", "another router works here", where=folder, remedy="Stop it, or choose another --state."
            ) from None
        for partial in self._reports.glob(f"{PARTIAL}*"):
            partial.unlink()
        try:
            self._base = sqlite3.connect(folder / "state.sqlite", isolation_level=None)
            self._base.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {_TABLES}")
        except sqlite3.Error as error:
            self._lock.close()
            raise UserError("bad-state", "cannot read the state", where=folder, found=error) from None
        known = self._place("source")
        if known not in (None, source):
            self.__exit__(None, None, None)
            raise UserError(
                "other-source",
                "the state is of another source",
                where=folder,
                found=known,
                expected=source,
                remedy="Choose another --state.",
            )
        self._put("source", source)
        self.waiting: dict[str, int] = dict(self._base.execute("SELECT study, news FROM waiting ORDER BY rowid"))
        """The studies that wait, the first first, and how often there was news of each since."""

    def __enter__(self) -> RouteState:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()
        self._lock.close()

    @property
    def seen(self) -> int | None:
        """Up to where the source was read; None at the first start."""
        value = self._place(_SEEN)
        return None if value is None else int(value)

    def add(self, studies: Iterable[str], *, seen: int) -> None:
        """Let studies wait, and know that the source was read up to there: both or neither."""
        with self._base:
            self._base.execute("BEGIN")
            news = self._let_wait(studies)
            self._put(_SEEN, str(seen))
        self.waiting = news

    def again(self, reasons: Iterable[str]) -> None:
        """Let studies wait that have no answer for one of these reasons, or one without a film for it.

        Raises:
            UserError: a reason that no study has; nothing waits then.
        """
        studies: set[str] = set()
        for reason in reasons:
            found = {
                row[0] for row in self._base.execute(f"SELECT study FROM ({_REASONS}) WHERE reason = ?", (reason,))
            }
            if not found:
                known = [row[0] for row in self._base.execute(f"SELECT DISTINCT reason FROM ({_REASONS}) ORDER BY 1")]
                expected = f"one of {', '.join(known)}" if known else "none, as every film has its answer"
                raise UserError(
                    "no-such-reason", "no study has this reason", where="--again", found=reason, expected=expected
                )
            studies |= found
        with self._base:
            self._base.execute("BEGIN")
            self._base.executemany("UPDATE done SET films = '' WHERE study = ?", ((study,) for study in studies))
            news = self._let_wait(sorted(studies))
        self.waiting = news
        for study in studies:
            self._forget_report(study)  # one that is left from before a kill is of the old answer

    def done(self, study: str) -> Done | None:
        """What became of a study when it was last looked at."""
        query = "SELECT films, reason, report, left_out FROM done WHERE study = ?"
        row = self._base.execute(query, (study,)).fetchone()
        if row is None:
            return None
        films, reason, report, left_out = row
        return Done(films, reason, report, json.loads(left_out))

    def finish(self, study: str, done: Done | None, *, news: int) -> None:
        """A study waits no more, unless there was news of it meanwhile.

        Args:
            done: None leaves what was known of it.
            news: as `waiting` had it when the study was looked at.
        """
        with self._base:
            self._base.execute("BEGIN")
            if done is not None:
                values = (study, *done[:3], json.dumps(dict(done.left_out)))
                self._base.execute("INSERT OR REPLACE INTO done VALUES (?, ?, ?, ?, ?)", values)
            self._base.execute("DELETE FROM waiting WHERE study = ? AND news = ?", (study, news))
        if self.waiting.get(study) == news:
            del self.waiting[study]
        self._forget_report(study)

    def counts(self) -> Counter[str]:
        """Studies by what became of them: a reason, or `answered`."""
        rows = self._base.execute("SELECT coalesce(reason, 'answered'), count(*) FROM done GROUP BY 1")
        return Counter(dict(rows.fetchall()))

    def left_out(self) -> Counter[str]:
        """Films that studies were answered without, by reason."""
        rows = self._base.execute("SELECT key, sum(value) FROM done, json_each(left_out) GROUP BY key")
        return Counter(dict(rows.fetchall()))

    def report_under_way(self, study: str, films: str) -> Report | None:
        """The report that was made of these films, as Done has them, and perhaps not sent."""
        file = self._reports / f"{study}.{films[:16]}.dcm"
        if not file.exists():
            return None
        return Report(file.read_bytes(), json.loads(file.with_suffix(".json").read_bytes()))

    def keep_report(self, study: str, films: str, report: Report) -> None:
        """Keep a report before it is sent, so that it is the same one that is sent again."""
        file = self._reports / f"{study}.{films[:16]}.dcm"
        write_whole(file.with_suffix(".json"), json.dumps(report.left_out).encode())  # first: no report without it
        write_whole(file, report.file)

    def _let_wait(self, studies: Iterable[str]) -> dict[str, int]:
        news = dict(self.waiting)
        for study in studies:
            news[study] = news.get(study, 0) + 1
        self._base.executemany(
            "INSERT INTO waiting VALUES (?, ?) ON CONFLICT (study) DO UPDATE SET news = excluded.news",
            (item for item in news.items() if self.waiting.get(item[0]) != item[1]),
        )
        return news

    def _forget_report(self, study: str) -> None:
        for path in sorted(self._reports.glob(f"{study}.*")):  # .dcm before .json
            path.unlink(missing_ok=True)

    def _place(self, name: str) -> str | None:
        row = self._base.execute("SELECT value FROM place WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def _put(self, name: str, value: str) -> None:
        self._base.execute("INSERT OR REPLACE INTO place VALUES (?, ?)", (name, value))
