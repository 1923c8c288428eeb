"""Trials in a database that several machines share, a real PostgreSQL."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from optuna.trial import TrialState

from components.cxr.storage.storage import Root
from pipeline.sweep.space import Dimension
from pipeline.sweep.study import OWNER, opened_study, owner
from tests.postgres import PASSWORD, Postgres, postgres

__all__ = ["postgres"]

pytestmark = pytest.mark.slow


def test_machines_share_trials_and_take_none_from_each_other(postgres: Postgres) -> None:
    storage = f"postgresql://mlflow:{quote(PASSWORD, safe='')}@127.0.0.1:{postgres.port}/mlflow"
    distributions = {"learning_rate": Dimension(low=1e-4, high=1e-2, log=True).distribution}
    root = Root("gs://bucket/runs")  # which needs a database
    with (
        opened_study(root, "k", storage=storage, seed=0, prune=True) as here,
        opened_study(root, "k", storage=storage, seed=0, prune=True) as there,
    ):
        one, other = here.ask(distributions), there.ask(distributions)
        one.set_user_attr(OWNER, owner())
        here.tell(one, 0.6)
        there.tell(other, 0.7)
        assert here.best_trial.number == other.number
        lost, elsewhere = here.ask(distributions), there.ask(distributions)
        lost.set_user_attr(OWNER, [owner()[0], 2**22 + 1, 0.0])
        elsewhere.set_user_attr(OWNER, ["another-machine", 1, 0.0])
    with opened_study(root, "k", storage=storage, seed=0, prune=True) as again:
        states = [trial.state for trial in again.trials]
        assert states == [
            TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING,
        ]  # fmt: skip
        assert again.ask(distributions).params == lost.params
