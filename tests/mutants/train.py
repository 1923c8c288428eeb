"""The training loop and what it is made of."""

from tests.mutants.mutant import Mutant

MUTANTS = [
    Mutant(
        "average-of-weights-never-warms-up",
        file="components/train/ema.py",
        old="return min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))",
        new="return self.decay",
        test="tests/components/train/test_ema.py::test_average_warms_up_and_follows_the_weights",
    ),
]
