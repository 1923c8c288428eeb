import pytest
import torch

from components.cxr.errors import UserError
from components.cxr.model.device import pick_device

WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
WITH_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@WITHOUT_GPU
def test_asking_for_a_missing_gpu_is_an_error() -> None:
    with pytest.raises(UserError, match=r"no CUDA device: evaluate.device; found cuda. Set evaluate.device=auto"):
        pick_device("cuda", where="evaluate.device")
    assert pick_device("auto", where="evaluate.device") == torch.device("cpu")


@WITH_GPU
def test_a_torchrun_process_takes_the_gpu_of_its_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert pick_device("auto", where="train.device") == torch.device("cuda", 0)
    assert pick_device("cpu", where="train.device") == torch.device("cpu")


def test_more_processes_than_gpus_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("auto", where="train.device") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match=r"more processes than CUDA devices: train\.device; found process 3, 2 of them"):
        pick_device("auto", where="train.device")
