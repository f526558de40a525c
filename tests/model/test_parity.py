"""Equality with Transformers: the same weights and inputs give the same states, weights, scores, losses, gradients.

`python -m tests.test_parity` prints the largest differences, a row for each model.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
import transformers
from torch import Tensor, nn

import companion
from companion.config import BertConfig
from companion.model.checkpoints import load_weights
from companion.model.encoder import BertModel
from companion.model.names import from_transformers

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5  # absolute, in fp32; of gradients relative, as `gradient_difference` defines it
MODELS = (
    "BertModel",
    "BertForPreTraining",
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertForQuestionAnswering",
    "BertForMultipleChoice",
)
SEEDS = range(4)
BATCH, TOKENS, CHOICES = 4, 11, 2
INPUTS = ("ids alone", "padded right", "padded left", "segments", "positions", "everything")


def random_config(seed: int) -> transformers.BertConfig:
    """Draw a configuration in Transformers' format. Dropout is 0, so that training mode can be compared too."""
    generator = torch.Generator().manual_seed(seed)

    def choose(*values: object) -> object:
        return values[torch.randint(len(values), (), generator=generator)]

    heads = choose(1, 2, 3, 4)
    return transformers.BertConfig(
        vocab_size=choose(61, 97),
        hidden_size=heads * choose(4, 8, 16),
        num_hidden_layers=seed % 4 + 1,
        num_attention_heads=heads,
        intermediate_size=choose(20, 48, 64),
        hidden_act=("gelu", "gelu_new", "relu")[seed % 3],
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=choose(16, 32),
        type_vocab_size=choose(2, 3, 4),
        layer_norm_eps=choose(1e-12, 1e-5, 1e-2),
        num_labels=choose(1, 2, 5),
    )


def pair(name: str, seed: int, implementation: str = "eager", **changes: object) -> tuple[nn.Module, nn.Module]:
    """Return our model and Transformers' of the same name, with the same random weights in every parameter."""
    torch.manual_seed(seed)
    config = random_config(seed)
    config.update(changes)
    config._attn_implementation = implementation
    if name == "BertForQuestionAnswering":
        config.num_labels = 2  # start and end
    theirs = getattr(transformers, name)(config).eval()
    for parameter_name, parameter in theirs.named_parameters():
        mean = 1.0 if parameter_name.endswith("LayerNorm.weight") else 0.0
        parameter.data = mean + 0.15 * torch.randn(parameter.shape)
    cls = BertModel if name == "BertModel" else getattr(companion, name)
    ours = cls(BertConfig.from_dict(config.to_dict())).eval()
    load_weights(ours, from_transformers(theirs.state_dict()))
    return ours, theirs


def random_inputs(kind: str, config: transformers.BertConfig, seed: int) -> dict[str, Tensor]:
    """Return a batch of `BATCH` × `TOKENS` ids and what `kind` names beside them."""
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, TOKENS)
    inputs = {"input_ids": torch.randint(config.vocab_size, shape, generator=generator)}
    lengths = torch.randint(1, TOKENS + 1, (BATCH, 1), generator=generator)
    right = (torch.arange(TOKENS) < lengths).long()
    places = torch.randint(config.max_position_embeddings, shape, generator=generator)
    if kind in ("padded right", "everything"):
        inputs["attention_mask"] = right
    if kind == "padded left":
        inputs["attention_mask"] = right.flip(1)
        inputs["position_ids"] = (right.flip(1).cumsum(1) - 1).clamp(min=0)
    if kind in ("segments", "everything"):
        inputs["token_type_ids"] = torch.randint(config.type_vocab_size, shape, generator=generator)
    if kind in ("positions", "everything"):
        inputs["position_ids"] = places
    return inputs


def random_labels(name: str, config: transformers.BertConfig, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    chosen = draw(2, BATCH, TOKENS) == 1
    words = {"labels": torch.where(chosen, draw(config.vocab_size, BATCH, TOKENS), -100)}
    one = config.num_labels == 1
    return {
        "BertModel": {},
        "BertForPreTraining": words | {"next_sentence_label": draw(2, BATCH)},
        "BertForMaskedLM": words,
        "BertForSequenceClassification": {"labels": draw(9, BATCH).float() if one else draw(config.num_labels, BATCH)},
        "BertForTokenClassification": {"labels": torch.where(chosen, draw(config.num_labels, BATCH, TOKENS), -100)},
        "BertForQuestionAnswering": {  # position 11 stands outside the input and is ignored
            "start_positions": draw(TOKENS + 1, BATCH),
            "end_positions": draw(TOKENS + 1, BATCH),
        },
        "BertForMultipleChoice": {"labels": draw(CHOICES, BATCH // CHOICES)},
    }[name]


@dataclass
class Difference:
    """The largest difference between ours and theirs in each quantity."""

    values: dict[str, float]

    def __or__(self, other: Difference) -> Difference:
        names = self.values | other.values
        return Difference({n: max(self.values.get(n, 0.0), other.values.get(n, 0.0)) for n in names})


def objective(output: object) -> Tensor:
    """Return the loss, or for a model without one a fixed weighting of everything it puts out."""
    if getattr(output, "loss", None) is not None:
        return output.loss
    generator = torch.Generator().manual_seed(0)
    outputs = (output.last_hidden_state, output.pooler_output)
    return sum((tensor * torch.randn(tensor.shape, generator=generator)).sum() for tensor in outputs)


def quantities(output: object) -> dict[str, list[Tensor]]:
    """Sort the tensors of an output, ours or theirs, by what they are."""
    scores = ("logits", "prediction_logits", "seq_relationship_logits", "start_logits", "end_logits", "pooler_output")
    found = {
        "states": list(output.hidden_states),
        "scores": [getattr(output, name) for name in scores if getattr(output, name, None) is not None],
        "loss": [objective(output)] if getattr(output, "loss", None) is not None else [],
    }
    if output.attentions:
        found["attention"] = list(output.attentions)
    return found


def gradient_difference(ours: nn.Module, theirs: nn.Module) -> float:
    """Return the largest of max|difference| / max|gradient|, each within one parameter, over all parameters.

    The divisor is at least 5% of the largest gradient of the model: what is 0 but for rounding, as for the biases of
    keys, which softmax does not see, or for sums whose terms cancel, has no digits to compare.
    """
    mine = from_transformers({name: p.grad for name, p in theirs.named_parameters() if p.grad is not None})
    sizes = {name: float(gradient.abs().max()) for name, gradient in mine.items()}
    floor = 0.05 * max(sizes.values())
    differences = {}
    for name, parameter in ours.named_parameters():
        differences[name] = float((parameter.grad - mine[name]).abs().max()) / max(sizes[name], floor)
    assert set(differences) == set(mine), "the two models train other parameters"
    return max(differences.values())


def compare(ours: nn.Module, theirs: nn.Module, inputs: Mapping[str, Tensor], attentions: bool) -> Difference:
    """Run both models on the same batch, forward and backward."""
    for model in (ours, theirs):
        model.zero_grad()
    outputs = [model(**inputs, output_hidden_states=True, output_attentions=attentions) for model in (ours, theirs)]
    found, expected = map(quantities, outputs)
    assert found.keys() == expected.keys()
    values = {}
    for name, tensors in found.items():
        pairs = list(zip(tensors, expected[name], strict=True))
        assert all(a.shape == b.shape for a, b in pairs), name
        values[name] = max((float((a - b).detach().abs().max()) for a, b in pairs), default=0.0)
    for output in outputs:
        objective(output).backward()
    return Difference(values | {"gradient": gradient_difference(ours, theirs)})


def parity(name: str, seed: int, kind: str, ours_by_hand: bool, implementation: str) -> Difference:
    """Compare one model on one kind of input.

    Ours computes attention by hand where the weights are asked for, and in training mode on a CPU; else it calls the
    fused kernel. Theirs is `"eager"` or `"sdpa"`; only the first returns the weights.
    """
    ours, theirs = pair(name, seed, implementation)
    inputs = random_inputs(kind, theirs.config, seed)
    if name == "BertForMultipleChoice":
        inputs = {part: values.unflatten(0, (-1, CHOICES)) for part, values in inputs.items()}
    inputs |= random_labels(name, theirs.config, seed)
    weights = ours_by_hand and implementation == "eager"
    return compare(ours.train(ours_by_hand), theirs, inputs, attentions=weights)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("by_hand", [True, False], ids=["by hand", "fused"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_ours_equals_theirs(name: str, kind: str, by_hand: bool, implementation: str):
    for seed in SEEDS:
        difference = parity(name, seed, kind, by_hand, implementation).values
        assert all(value <= TOLERANCE for value in difference.values()), (seed, difference)
        assert ("attention" in difference) == (by_hand and implementation == "eager")


def test_the_drawn_configurations_differ_in_everything():
    configs = [random_config(seed) for seed in SEEDS]
    assert {config.num_hidden_layers for config in configs} == {1, 2, 3, 4}
    assert {config.hidden_act for config in configs} == {"gelu", "gelu_new", "relu"}
    for name in ("num_attention_heads", "layer_norm_eps", "type_vocab_size", "num_labels", "intermediate_size"):
        assert len({getattr(config, name) for config in configs}) > 1, name


@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification", "single_label_classification"])
def test_every_loss_of_a_classifier_equals_theirs(problem_type: str):
    for num_labels in (2, 3):
        ours, theirs = pair("BertForSequenceClassification", 2, problem_type=problem_type, num_labels=num_labels)
        labels = torch.tensor([0, 1, 2, 1]) % num_labels
        if problem_type != "single_label_classification":
            labels = torch.rand(BATCH, num_labels).round()
        inputs = random_inputs("everything", theirs.config, 0) | {"labels": labels}
        assert max(compare(ours, theirs, inputs, attentions=False).values.values()) <= TOLERANCE


def test_vectors_in_place_of_ids_and_a_mask_for_every_query_give_what_theirs_give():
    ours, theirs = pair("BertModel", 3)
    vectors = torch.randn(BATCH, TOKENS, theirs.config.hidden_size)
    mask = torch.ones(BATCH, TOKENS, TOKENS).tril()
    added = (1 - mask)[:, None] * torch.finfo(torch.float32).min  # the form that theirs takes
    for mine, other in ((None, None), (mask, added)):
        found = ours(inputs_embeds=vectors, attention_mask=mine).last_hidden_state
        expected = theirs(inputs_embeds=vectors, attention_mask=other).last_hidden_state
        torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("spoil", [{"layer_norm_eps": 1e-5}, {"hidden_act": "relu"}, {"num_attention_heads": 1}])
def test_a_wrong_configuration_is_seen(spoil: dict[str, object]):
    right = {"layer_norm_eps": 1e-3, "hidden_act": "gelu", "num_attention_heads": 2, "hidden_size": 16}
    ours, theirs = pair("BertModel", 0, **right)
    wrong = BertModel(BertConfig.from_dict(theirs.config.to_dict() | spoil)).eval()
    wrong.load_state_dict(ours.state_dict())
    inputs = random_inputs("everything", theirs.config, 0)
    assert max(compare(ours, theirs, inputs, attentions=False).values.values()) <= TOLERANCE
    assert max(compare(wrong, theirs, inputs, attentions=False).values.values()) > TOLERANCE


def parity_table(seeds: range = SEEDS) -> dict[str, Difference]:
    """Return the largest differences of each model over all seeds, inputs and ways of computing attention."""
    table = {}
    for name in MODELS:
        table[name] = Difference({})
        for seed in seeds:
            for kind in INPUTS:
                for by_hand in (True, False):
                    for implementation in ("eager", "sdpa"):
                        table[name] |= parity(name, seed, kind, by_hand, implementation)
    return table


def main() -> None:
    """Print the table."""
    columns = ("states", "attention", "scores", "loss", "gradient")
    write = sys.stdout.write
    write(f"Largest difference from transformers {transformers.__version__} in fp32, torch {torch.__version__}; ")
    write("of gradients relative to the parameter's largest, or to 5% of the model's largest if that is more\n")
    write(f"{'':32}" + "".join(f"{column:>12}" for column in columns) + "\n")
    for name, difference in parity_table().items():
        cells = (difference.values.get(column) for column in columns)
        write(f"{name:32}" + "".join(f"{'-':>12}" if cell is None else f"{cell:12.1e}" for cell in cells) + "\n")


if __name__ == "__main__":
    main()
