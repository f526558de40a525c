"""The costs of pre-training: by hand, and against what PyTorch counts when the model runs."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from companion.config import BertConfig
from companion.model.heads import IGNORED, BertForPreTraining
from companion.pretraining.corpus import prepare_corpus
from companion.pretraining.objectives import PreTrainingObjective
from companion.studies.costs import (
    activation_memory,
    all_reduce_bytes,
    corpus_bytes,
    forward_flops,
    layer_entries,
    parameter_count,
    price,
    state_memory,
    training_flops,
    training_flops_per_token,
    training_hours,
)
from companion.text.tokenizer import Tokenizer
from companion.training.optimisers import parameter_groups

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TOY = BertConfig(10, 4, 1, 2, 8, max_position_embeddings=6, **NO_DROPOUT)  # vocabulary 10, hidden 4, one layer, inner 8
TINY = BertConfig.preset("tiny", vocab_size=1000, **NO_DROPOUT)
MINI = BertConfig.preset("mini", vocab_size=8192, **NO_DROPOUT)
ROWS, TOKENS, MASKED = 3, 24, 4  # masked in each row


def batch(config: BertConfig, next_sentence: bool = True, rows: int = ROWS, tokens: int = TOKENS) -> dict[str, Tensor]:
    ids = torch.randint(5, config.vocab_size, (rows, tokens))
    labels = torch.full_like(ids, IGNORED)
    labels[:, 1 : 1 + MASKED] = ids[:, 1 : 1 + MASKED]
    whole = {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "labels": labels}
    return whole | ({"next_sentence_label": torch.zeros(rows, dtype=torch.int64)} if next_sentence else {})


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    sums = PreTrainingObjective().sums(model, batch)
    return sum(one.loss for one in sums.values())


def counted(model: nn.Module, batch: dict[str, Tensor], backward: bool) -> int:
    with FlopCounterMode(display=False) as counter:
        total = loss(model, batch)
        if backward:
            total.backward()
    return counter.get_total_flops()


# --- by hand --------------------------------------------------------------------------------------------------------


def test_the_flops_of_a_toy_by_hand():
    assert layer_entries(TOY) == 4 * 16 + 2 * 32 == 128
    encoder = 2 * 128 * (3 + 2) - 2 * 64 * 2  # five tokens, of which no loss reads two
    attention = 4 * 4 * (9 + 4)  # rows of three and of two
    words, sentences = 2 * (16 + 40), 2 * 2 * (16 + 8)  # one masked token, two rows
    assert forward_flops(TOY, [3, 2], masked=1, every_token=False) == encoder + attention + words + sentences == 1440
    assert forward_flops(TOY, [3, 2], masked=1, next_sentence=False, every_token=False) == 1440 - 96 - 2 * 64 * 2
    assert training_flops(TOY, [3, 2], masked=1, every_token=False) == 3 * 1440
    assert forward_flops(TOY, [3, 2], masked=1) == 1440 + 2 * 64 * 2


def test_the_flops_of_a_token_are_those_of_a_full_row_divided():
    assert training_flops_per_token(TOY, 4, masking=0.25) == training_flops(TOY, [4], masked=1) / 4
    assert training_flops_per_token(TOY, 4, 0.5, next_sentence=False) == training_flops(TOY, [4], 2, False) / 4


def test_six_times_the_parameters_is_the_encoder_of_bert_base():
    base = BertConfig()
    assert 12 * layer_entries(base) == 84_934_656
    rest = training_flops_per_token(base, 128, masking=0.0, next_sentence=False) - 6 * 84_934_656
    assert rest == 12 * 12 * 768 * 128  # attention: 3 passes · 4 · h · n in each of 12 layers


@pytest.mark.parametrize(("name", "parameters"), [("tiny", None), ("mini", None), ("base", 110_106_428)])
def test_the_parameters_are_those_of_the_model(name: str, parameters: int | None):
    config = BertConfig.preset(name)
    with torch.device("meta"):
        found = sum(parameter.numel() for parameter in BertForPreTraining(config).parameters())
    assert parameter_count(config) == found
    assert parameters in (None, found)


def test_traffic_hours_and_price_by_hand():
    gradients = 4 * parameter_count(TOY)
    assert [all_reduce_bytes(TOY, n) for n in (1, 2, 4)] == [0, gradients, 1.5 * gradients]
    assert training_hours(7.2e15, 1e12) == 2.0
    assert training_hours(7.2e15, 1e12, devices=4) == 0.5
    assert price(0.5, 2.0, devices=4) == 4.0


# --- against what runs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("next_sentence", [True, False])
@pytest.mark.parametrize("config", [TINY, MINI], ids=["tiny", "mini"])
def test_the_flops_are_those_that_pytorch_counts(config: BertConfig, next_sentence: bool):
    model, rows = BertForPreTraining(config).train(), batch(config, next_sentence)
    arguments = (config, [TOKENS] * ROWS, ROWS * MASKED)
    assert counted(model, rows, backward=False) == forward_flops(*arguments, next_sentence, every_token=False)
    assert counted(model, rows, backward=True) == training_flops(*arguments, next_sentence, every_token=False)


def test_padding_is_computed_though_no_task_needs_it():
    rows = batch(TINY)
    rows["attention_mask"] = torch.ones_like(rows["input_ids"])
    rows["attention_mask"][0, 12:] = 0
    found = counted(BertForPreTraining(TINY).train(), rows, backward=True)
    assert found == training_flops(TINY, [TOKENS] * ROWS, ROWS * MASKED, every_token=False)
    assert found > training_flops(TINY, [12, TOKENS, TOKENS], ROWS * MASKED, every_token=False)


def test_the_state_is_what_the_tensors_hold():
    model = BertForPreTraining(TINY).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.01))
    loss(model, batch(TINY)).backward()
    optimizer.step()
    parameters = list(model.parameters())
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert state_memory(TINY) == {
        "weights": sum(p.nbytes for p in parameters),
        "gradients": sum(p.grad.nbytes for p in parameters),
        "optimizer": sum(moment.nbytes for moment in moments),
    }


class Kept:
    """A tensor that autograd keeps; lives as long as the graph."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def kept_for_backward(model: nn.Module, batch: dict[str, Tensor]) -> int:
    """Return the bytes of all float tensors that autograd keeps, a storage that several share counted once."""
    alive: weakref.WeakSet[Kept] = weakref.WeakSet()

    def pack(tensor: Tensor) -> Kept:
        kept = Kept(tensor.detach())  # with its graph, an output would hold on to itself
        alive.add(kept)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        total = loss(model, batch)
    assert total.requires_grad
    storages = {s.data_ptr(): s.nbytes() for s in (kept.tensor.untyped_storage() for kept in alive if is_float(kept))}
    return sum(storages.values()) - sum(storages.get(p.untyped_storage().data_ptr(), 0) for p in model.parameters())


def is_float(kept: Kept) -> bool:
    return kept.tensor.is_floating_point()


@pytest.mark.parametrize("next_sentence", [True, False])
@pytest.mark.parametrize("config", [TINY, MINI], ids=["tiny", "mini"])
def test_the_activations_are_those_that_autograd_keeps(config: BertConfig, next_sentence: bool):
    found = kept_for_backward(BertForPreTraining(config).train(), batch(config, next_sentence))
    expected = activation_memory(config, ROWS, TOKENS, MASKED / TOKENS, next_sentence=next_sentence)
    scalars = 8 if next_sentence else 4  # each cross-entropy keeps the number of its labels
    assert found == expected + scalars


def test_a_fused_kernel_keeps_no_attention_weights():
    saved = activation_memory(MINI, 2, 128) - activation_memory(MINI, 2, 128, fused_attention=True)
    assert saved == 4 * 4 * 2 * 4 * (128 * 128 - 128)  # bytes · layers · rows · heads · (weights − one a row of them)


@pytest.mark.parametrize("vocab_size", [40, 2**16 - 1, 2**16, 2**16 + 1, 70_000])
def test_a_corpus_is_as_large_on_disk_as_predicted(tmp_path, vocab_size: int):
    words = [f"w{number}" for number in range(vocab_size - 6)]
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *words])
    (tmp_path / "text.txt").write_text("w1 w2. W3 w4 w5.\nW6.\n\nw7 w8.\n", encoding="utf-8")
    corpus = prepare_corpus(tmp_path / "text.txt", tokenizer, tmp_path / "corpus", progress=False)
    found = sum((corpus.folder / f"{name}.bin").stat().st_size for name in ("tokens", "sentences", "documents"))
    assert (corpus.num_tokens, corpus.num_sentences, corpus.num_documents) == (12, 4, 2)
    assert found == corpus_bytes(12, 4, 2, vocab_size)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: training_flops_per_token(TOY, 7), "tokens=7 is not allowed; it must be an integer from 1 to 6"),
        (lambda: training_flops_per_token(TOY, 4, 1.5), r"masking=1.5 is not allowed; it must be a share in \[0, 1\]"),
        (lambda: activation_memory(TOY, 2, 0), "tokens=0 is not allowed"),
        (lambda: all_reduce_bytes(TOY, 0), "processes=0 is not allowed; it must be an integer above 0"),
        (lambda: training_hours(1.0, 0.0), "flops_per_second=0.0 is not allowed; it must be a number above 0"),
        (lambda: training_hours(1.0, 1.0, 0), "devices=0 is not allowed; it must be a number above 0"),
    ],
)
def test_what_is_out_of_range_is_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
