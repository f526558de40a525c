"""Which clock measures what: processor time only that of one thread on a processor, in every comparison."""

import pytest
import torch

from companion.studies import interleave
from companion.studies.cases import PretrainingCase
from companion.studies.finetuning_cases import FinetuningCase

CASES = (PretrainingCase, FinetuningCase)


@pytest.mark.parametrize("case", CASES)
def test_processor_time_of_a_gpu_is_refused(case: type, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(interleave, "best_device", lambda device: torch.device("cuda"))
    with pytest.raises(ValueError, match="clock='cpu' does not see cuda; pass clock='wall'"):
        case(clock="cpu", threads=1)


@pytest.mark.parametrize("case", CASES)
def test_processor_time_of_the_threads_that_torch_would_take_is_refused(case: type, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(ValueError, match="clock='cpu' adds up the time of all threads; pass threads=1"):
        case(clock="cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert case(clock="cpu").threads is None
