"""What pre-training costs, before it is begun: operations, memory, disk, traffic, hours and money.

Pure functions of a configuration and a few counts. A product of a vector with a matrix of N entries takes N
multiply-adds, 2·N floating-point operations (FLOPs). The backward pass takes twice as many as the forward pass, since
it needs the gradient of the vector and that of the matrix. What is not a product of matrices (LayerNorm, GELU, softmax,
looking embeddings up, the optimiser) is not counted: it costs time by the memory it moves, not by its operations.
"""

from __future__ import annotations

from collections.abc import Sequence

from companion.config import BertConfig
from companion.support.require import integer, number

BACKWARD = 2  # forward passes that a backward pass is worth
WEIGHT, MOMENTS = 4, 2  # bytes of a weight and its gradient, kept in fp32; moving averages that Adam keeps of it


def layer_entries(config: BertConfig) -> int:
    """Return the entries of the weight matrices of one layer: four of attention, two of the feed-forward network."""
    return 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size


def parameter_count(config: BertConfig) -> int:
    """Return the parameters of `BertForPreTraining`; the vocabulary projection shares those of the embeddings."""
    h, f, layers, vocabulary = (
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.vocab_size,
    )
    embeddings = (vocabulary + config.max_position_embeddings + config.type_vocab_size) * h + 2 * h
    vectors_of_a_layer = 4 * h + f + h + 4 * h  # biases of attention and of the feed-forward network, two LayerNorms
    pooler, sentence_head = h * h + h, 2 * h + 2
    word_head = h * h + h + 2 * h + vocabulary
    return embeddings + layers * (layer_entries(config) + vectors_of_a_layer) + pooler + word_head + sentence_head


def forward_flops(
    config: BertConfig,
    lengths: Sequence[int],
    masked: int,
    next_sentence: bool = True,
    *,
    every_token: bool = True,
) -> int:
    """Return the FLOPs of the matrix products in one forward pass of pre-training.

    The sum of: 2·N for every token, N the entries of the encoder's matrices; 4·h·n for every token and layer, of the
    two products of attention in a row of n tokens (h wide, all heads together); 2·(h² + h·vocabulary) for every masked
    token, of the language-model head; and 2·(h² + 2·h) for every row, of the pooler and the next-sentence head. Kaplan
    et al. (2020), section 2.1, count the encoder in this way. This package computes less, as no loss reads it: see
    `every_token`.

    Parameters
    ----------
    config : BertConfig
    lengths : sequence of int, (rows,)
        Tokens of each row. Padding left out gives what the task needs, and padding counted what a machine computes.
    masked : int
        Tokens to be predicted, in all rows together.
    next_sentence : bool
        Whether the rows are pairs, so that pooler and next-sentence head are used.
    every_token : bool
        Whether the feed-forward network of the last layer is computed for every token, as most implementations do, or
        as `companion.pretraining.objectives` does for those that a loss reads: the masked ones and, in pairs, `[CLS]`.
    """
    h, layers = config.hidden_size, config.num_hidden_layers
    encoder = 2 * layers * layer_entries(config) * sum(lengths)
    if not every_token:
        unread = sum(lengths) - masked - (len(lengths) if next_sentence else 0)
        encoder -= 4 * h * config.intermediate_size * unread
    attention = 4 * h * layers * sum(length * length for length in lengths)
    words = 2 * (h * h + h * config.vocab_size) * masked
    sentences = 2 * (h * h + 2 * h) * len(lengths) if next_sentence else 0
    return encoder + attention + words + sentences


def training_flops(
    config: BertConfig, lengths: Sequence[int], masked: int, next_sentence: bool = True, *, every_token: bool = True
) -> int:
    """Return the FLOPs of a training step, forward and backward; the arguments are those of `forward_flops`."""
    return (1 + BACKWARD) * forward_flops(config, lengths, masked, next_sentence, every_token=every_token)


def training_flops_per_token(
    config: BertConfig,
    tokens: int,
    masking: float = 0.15,
    next_sentence: bool = True,
    *,
    every_token: bool = True,
) -> float:
    """Return the FLOPs of training for each token, in full rows of `tokens` of which a share `masking` is masked.

    The other arguments are those of `forward_flops`.

    Raises
    ------
    ValueError
        If `tokens` or `masking` is out of range.
    """
    _check_row(config, tokens, masking)
    per_masked = training_flops(config, [], 1, next_sentence=False, every_token=every_token)
    per_row = training_flops(config, [tokens], 0, next_sentence, every_token=every_token)
    return per_row / tokens + masking * per_masked


def state_memory(config: BertConfig) -> dict[str, int]:
    """Return the bytes of `weights`, `gradients` and Adam's two moving averages, `optimizer`: 16 for a parameter.

    All are kept in fp32, under autocast too. One of each lies on every device in data parallel training. Rajbhandari et
    al. (2020), section 3.1, count 16 as well, with 16-bit copies of weights and gradients beside 12 bytes in fp32.
    """
    weights = WEIGHT * parameter_count(config)
    return {"weights": weights, "gradients": weights, "optimizer": MOMENTS * weights}


def activation_memory(
    config: BertConfig,
    rows: int,
    tokens: int,
    masking: float = 0.15,
    *,
    next_sentence: bool = True,
    fused_attention: bool = False,
    bytes_each: int = 4,
) -> int:
    """Return the bytes that the forward pass keeps for the backward pass, without dropout.

    For every token and layer, in units of h: the layer's input, queries, keys, values, what attention returns, the
    inputs of both LayerNorms and the output of the first are 8; then 2·f around GELU, the attention weights (heads ·
    tokens), and mean and deviation of both LayerNorms. Korthikanti et al. (2022), section 4.1, count the same in two
    bytes, and dropout's masks with it. What follows attention in the last layer is kept for the tokens that a loss
    reads, masked ones and the `[CLS]` of pairs. The head adds the logits, the vocabulary for every masked token.

    Parameters
    ----------
    config : BertConfig
    rows, tokens : int
        Rows that are on the device at a time, and tokens of a row, padding included.
    masking : float
        Share of the tokens that is masked.
    next_sentence : bool
        As in `forward_flops`.
    fused_attention : bool
        A fused kernel keeps no attention weights: it keeps one number for each of its rows and computes them again.
    bytes_each : int
        4 in fp32. In bf16 autocast some values are kept in two bytes and some in four.

    Raises
    ------
    ValueError
        If `tokens` or `masking` is out of range.
    """
    _check_row(config, tokens, masking)
    h, f, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    weights = config.num_attention_heads * (1 if fused_attention else tokens)
    seen, read = 5 * h + weights, 3 * h + 2 * f + 4  # of attention, and from its LayerNorm on
    body = layers * seen + (layers - 1) * read + h + 2  # and the LayerNorm of the embeddings
    words = masking * (read + 4 * h + config.vocab_size + 2)
    sentences = read + 2 * h + 2 if next_sentence else 0
    return round(bytes_each * rows * (tokens * (body + words) + sentences))


def corpus_bytes(tokens: int, sentences: int, documents: int, vocab_size: int) -> int:
    """Return the size of a prepared corpus on disk (see `companion.pretraining.corpus`).

    Ids take two bytes up to a vocabulary of 65,536 and four beyond; where a sentence or a document begins takes eight.
    """
    return tokens * (2 if vocab_size <= 2**16 else 4) + 8 * (sentences + 1 + documents + 1)


def all_reduce_bytes(config: BertConfig, processes: int) -> float:
    """Return the bytes that each of `processes` sends in one step to add up the gradients, in fp32, around a ring.

    2·(P − 1)/P times the size of the gradients (Patarasuk and Yuan 2009): each P-th part goes once around to be added
    up, and once more to be handed out. It hardly grows with P.
    """
    integer("processes", processes, 1)
    return 2 * (processes - 1) / processes * state_memory(config)["gradients"]


def training_hours(flops: float, flops_per_second: float, devices: int = 1) -> float:
    """Return the hours that `flops` take on `devices` of which each sustains `flops_per_second`.

    That is a measured figure, or the peak of the device times an assumed utilisation. Devices that wait for each other
    sustain less.

    Raises
    ------
    ValueError
        If `flops_per_second` or `devices` is not above 0.
    """
    for name, value in (("flops_per_second", flops_per_second), ("devices", devices)):
        number(name, value, above=0)
    return flops / (flops_per_second * devices) / 3600


def price(hours: float, price_per_hour: float, devices: int = 1) -> float:
    """Return what `devices` cost for `hours`, at `price_per_hour` for each, in its currency."""
    return hours * devices * price_per_hour


def _check_row(config: BertConfig, tokens: int, masking: float) -> None:
    integer("tokens", tokens, 1, config.max_position_embeddings)
    number("masking", masking, "a share in [0, 1]", minimum=0, maximum=1)
