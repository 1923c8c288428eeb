"""`python -m benchmarks.dropout`: what dropout keyed by study costs in a training step, beside torch's own.

One thread, forward and backward of the default network, interleaved; medians of CPU time.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

from components.cxr.model.architecture import Architecture
from components.cxr.model.batch import Batch
from components.cxr.model.dropout import dropout_keys
from components.cxr.model.network import CxrModel
from components.train.build import build_model
from components.train.config import TrainConfig

STUDIES, SIZE, ROUNDS = 16, 64, 15


def main() -> None:
    """Print the milliseconds of a step either way and their ratio."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    words = ["cough and fever", "chest pain", "shortness of breath since two days", "fall from a ladder"] * 4
    config = TrainConfig(architecture=Architecture(patches="none"))
    _, model, tokenizer = build_model(config, texts=words, film_size=SIZE, num_pathologies=14)
    tokens = tokenizer(words, padding=True, return_tensors="pt")
    batch = Batch(
        films_BVHW=torch.randint(0, 256, (STUDIES, 1, SIZE, SIZE), dtype=torch.uint8),
        film_mask_BV=torch.ones(STUDIES, 1, dtype=torch.bool),
        view_BV=torch.ones(STUDIES, 1, dtype=torch.long),
        tokens_BT=tokens["input_ids"],
        token_mask_BT=tokens["attention_mask"].bool(),
        age_B=torch.full((STUDIES,), 60.0),
        sex_B=torch.ones(STUDIES, dtype=torch.long),
    )
    keys_B = dropout_keys(range(STUDIES), seed=0, step=0)
    plain: list[float] = []
    keyed: list[float] = []
    for _ in range(ROUNDS):
        plain.append(_step(model, batch, None))
        keyed.append(_step(model, batch, keys_B))
    one, other = statistics.median(plain), statistics.median(keyed)
    print(
        f"torch's dropout {1000 * one:.0f} ms, keyed {1000 * other:.0f} ms: {other / one - 1:+.1%} of a step's CPU time"
    )


def _step(model: CxrModel, batch: Batch, keys_B: Tensor | None) -> float:
    model.train().zero_grad()
    started = time.process_time()
    model(batch, keys_B).sum().backward()
    return time.process_time() - started


if __name__ == "__main__":
    main()
