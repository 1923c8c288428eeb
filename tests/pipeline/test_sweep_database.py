"""Trials in a database that several machines share, a real PostgreSQL."""

from __future__ import annotations

import socket
import time
from concurrent.futures import Future
from urllib.parse import quote

import pytest
from optuna.trial import TrialState

from components.cxr.storage.storage import Root
from components.cxr.tracking.tracked_run import TrackedRun
from pipeline.sweep.space import Dimension
from pipeline.sweep.study import GONE_S, OWNER, LostTrials, opened_study, sign
from pipeline.sweep.sweep import _median_rule, _Running, _tell
from tests.postgres import PASSWORD, Postgres, postgres

__all__ = ["postgres"]

pytestmark = pytest.mark.slow


def test_machines_share_trials_and_take_none_from_each_other(
    postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = f"postgresql://mlflow:{quote(PASSWORD, safe='')}@127.0.0.1:{postgres.port}/mlflow"
    distributions = {"learning_rate": Dimension(low=1e-4, high=1e-2, log=True).distribution}
    root = Root("gs://bucket/runs")  # which needs a database
    with (
        opened_study(root, "k", storage=storage, seed=0, prune=True) as here,
        opened_study(root, "k", storage=storage, seed=0, prune=True) as there,
    ):
        one, other = here.ask(distributions), there.ask(distributions)
        sign(one)
        here.tell(one, 0.6)
        there.tell(other, 0.7)
        assert here.best_trial.number == other.number
        lost, silent, alive, new = (here.ask(distributions) for _ in range(4))
        lost.set_user_attr(OWNER, [socket.gethostname(), 2**22 + 1, 0.0, time.time()])
        silent.set_user_attr(OWNER, ["another-machine", 1, 0.0, time.time() - GONE_S - 60])
        alive.set_user_attr(OWNER, ["another-machine", 1, 0.0, time.time() - GONE_S + 60])
    with opened_study(root, "k", storage=storage, seed=0, prune=True) as again:
        states = [trial.state for trial in again.trials]
        failed, running, waiting = TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING
        assert states[2:] == [failed, failed, running, running, waiting, waiting]
        seen = [trial for trial in again.trials if trial.number in (lost.number, silent.number)]
        with pytest.MonkeyPatch.context() as late:  # as one that looked before the other told
            late.setattr(again, "get_trials", lambda **_: seen)
            LostTrials(again).queue_again()
        assert len(again.trials) == len(states), "each is queued once"
        asked = [again.ask(distributions).params for _ in range(2)]
        assert asked == [lost.params, silent.params]
        assert new.params not in asked
        sign(silent)  # the machine comes back: the trial is another's now
        assert _tell(again, _Running(silent, {}), _done(0.9), TrackedRun(None, None, journal=None), 0) == 0
        assert again.best_value == pytest.approx(0.7)
        assert not _median_rule(silent)(1, 0.9)
    assert "trial 3 was taken over by another machine" in capsys.readouterr().out


def _done(value: float) -> Future[float | None]:
    future: Future[float | None] = Future()
    future.set_result(value)
    return future
