"""`python -m components.train.torchrun …`: torchrun, whose exit code says whether to try again.

torchrun itself ends with 1 whatever its workers ended with. Here it is 143 when it or a worker was stopped by SIGTERM,
and 2 when a worker met a user's mistake, which no retry mends.
"""

from __future__ import annotations

import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from components.train.stopping import AGAIN

__all__ = ["run"]


def run(arguments: list[str]) -> int:
    """Run torchrun with its own arguments; the exit code."""
    try:
        main(arguments)
    except SignalException:
        return AGAIN
    except ChildFailedError as error:
        codes = {failure.exitcode for failure in error.failures.values()}
        return next((code for code in (AGAIN, 2) if code in codes), 1)
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
