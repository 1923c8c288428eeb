"""`python -m benchmarks.serve_litserve_peer MODEL PORT WORKERS WAIT_MS`: the model behind LitServe, for
benchmarks/serve_litserve.py; it serves until a signal ends it."""

import sys
from typing import Annotated

import cv2
import litserve
import torch
from fastapi import File

from components.cxr.storage.storage import open_storage
from components.serve.predictor import Prediction, ReadStudy, StudyPredictor

MODEL, PORT, WORKERS, WAIT_MS = sys.argv[1:]


class Api(litserve.LitAPI):  # type: ignore[misc]
    """The server's own reading and passes."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """In each worker."""
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.predictor = StudyPredictor(open_storage(MODEL))

    # LitServe reads the annotation itself, so this file cannot have annotations as strings.
    def decode_request(self, request: Annotated[bytes, File()]) -> ReadStudy:
        """One film."""
        return self.predictor.read([request])

    def batch(self, inputs: list[ReadStudy]) -> list[ReadStudy]:
        """As they are."""
        return inputs

    def predict(self, x: list[ReadStudy]) -> list[Prediction]:
        """In one pass."""
        return self.predictor.answer(x)

    def unbatch(self, output: list[Prediction]) -> list[Prediction]:
        """As they are."""
        return output

    def encode_response(self, output: Prediction) -> dict[str, float]:
        """Probabilities by pathology."""
        return {name: found.probability for name, found in output.answers.items()}


if __name__ == "__main__":
    api = Api(max_batch_size=16, batch_timeout=float(WAIT_MS) / 1000)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(WORKERS), timeout=600)
    server.run(host="127.0.0.1", port=int(PORT), generate_client_file=False, log_level="warning")
