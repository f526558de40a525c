"""From vectors to answers: the six heads of BERT, each with its loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from companion.config import BertConfig
from companion.model.dropout import Dropout
from companion.model.embeddings import check_form
from companion.model.encoder import BertModel, activation, first_token, initialise
from companion.model.outputs import BertModelOutput, HeadOutput, PreTrainingOutput, SpanOutput, returned
from companion.model.pretrained import PreTrained, check_config

IGNORED = -100  # a label that counts neither in the loss nor in the mean


class MaskedLanguageHead(nn.Module):
    """Dense, GELU, LayerNorm, then the product with the token embeddings, which it shares, plus a bias."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.act = config.hidden_act
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, token_embeddings: Tensor) -> Tensor:
        """Map (..., hidden) to (..., vocabulary), given the (vocabulary, hidden) embeddings."""
        transformed = self.norm(activation(self.act, self.dense(hidden)))  # (..., hidden)
        return F.linear(transformed, token_embeddings, self.bias)  # (..., vocabulary)


class BertWithHead(PreTrained):
    """What the six models share: an encoder, and initialisation of what is put on it.

    Attributes
    ----------
    pooler : bool
        Of the class: whether the encoder has the pooler on `[CLS]`.
    config : BertConfig
    bert : BertModel
        The encoder.
    """

    pooler = False

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, pooler=self.pooler)
        self.add_heads(config)
        for name, part in self.named_children():
            if name != "bert":
                initialise(part, config.initializer_range)

    def add_heads(self, config: BertConfig) -> None:
        """Make the layers on top of the encoder."""
        raise NotImplementedError


class BertForPreTraining(BertWithHead):
    """BERT as it is pre-trained: masked language modelling and next-sentence prediction."""

    pooler = True

    def add_heads(self, config: BertConfig) -> None:
        """Make the heads of both tasks."""
        self.mlm_head = MaskedLanguageHead(config)
        self.nsp_head = nn.Linear(config.hidden_size, 2)

    def predict_tokens(self, hidden: Tensor) -> Tensor:
        """Map (..., hidden) to logits (..., vocabulary); pass only the masked positions to save most of the work."""
        return self.mlm_head(hidden, self.bert.embeddings.tokens.weight)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> PreTrainingOutput:
        """Return the logits of both tasks and, if both kinds of labels are given, the sum of the losses.

        Parameters
        ----------
        input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds
            As in `BertModel.forward`, as are the last three; the same holds for the other heads.
        labels : Tensor, int64, (batch, tokens), optional
            The original id where a token was masked, -100 elsewhere.
        next_sentence_label : Tensor, int64, (batch,), optional
            0 if the second segment follows the first in its document, 1 if it was drawn at random.
        """
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        output = self.bert(*inputs, output_attentions, output_hidden_states)
        tokens = self.predict_tokens(output.last_hidden_state)  # (batch, tokens, vocabulary)
        sentence = self.nsp_head(output.pooler_output)  # (batch, 2)
        loss = None
        if labels is not None and next_sentence_label is not None:
            loss = cross_entropy(tokens, labels) + cross_entropy(sentence, next_sentence_label)
        result = PreTrainingOutput(loss, tokens, sentence, output.hidden_states, output.attentions)
        return returned(result, return_dict)


class BertForMaskedLM(BertWithHead):
    """BERT that fills in blanks."""

    def add_heads(self, config: BertConfig) -> None:
        """Make the head that scores words."""
        self.mlm_head = MaskedLanguageHead(config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> HeadOutput:
        """Return logits (batch, tokens, vocabulary); `labels` (batch, tokens) hold -100 where nothing was masked."""
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        output = self.bert(*inputs, output_attentions, output_hidden_states)
        words = self.bert.embeddings.tokens.weight  # (vocabulary, hidden)
        logits = self.mlm_head(output.last_hidden_state, words)  # (batch, tokens, vocabulary)
        loss = None if labels is None else cross_entropy(logits, labels)
        return returned(HeadOutput(loss, logits, output.hidden_states, output.attentions), return_dict)


class BertForSequenceClassification(BertWithHead):
    """One label, several labels or one number for a text or a pair of texts, read off the pooled `[CLS]`.

    Attributes
    ----------
    reads : callable
        Of the class: the last states that `pooled` reads, as in `BertModel.forward`.
    """

    pooler = True
    reads = staticmethod(first_token)

    def add_heads(self, config: BertConfig) -> None:
        """Make one output for each label."""
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> HeadOutput:
        """Return logits (batch, num_labels).

        `labels` are (batch,) ids of classes, a (batch, num_labels) float matrix of 0 and 1 for several labels, or
        (batch,) numbers for regression; `config.problem_type` says which, or the dtype and `num_labels` if it is None.
        """
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        chosen = None if output_hidden_states else self.reads
        output = self.bert(*inputs, output_attentions, output_hidden_states, chosen=chosen)
        pooled = self.pooled(output, attention_mask)  # (batch, hidden)
        logits = self.classifier(self.dropout(pooled))  # (batch, num_labels)
        loss = None if labels is None else sequence_loss(logits, labels, self.config)
        found = HeadOutput(loss, logits, output.hidden_states, output.attentions)
        return returned(found, return_dict)

    def pooled(self, output: BertModelOutput, attention_mask: Tensor | None) -> Tensor | None:
        """Return the vector of the text that the head reads, (batch, hidden): here that of the pooler."""
        return output.pooler_output


class BertForTokenClassification(BertWithHead):
    """A label for every token."""

    def add_heads(self, config: BertConfig) -> None:
        """Make one output for each label."""
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> HeadOutput:
        """Return logits (batch, tokens, num_labels); `labels` (batch, tokens) hold -100 where none is to be learned."""
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        output = self.bert(*inputs, output_attentions, output_hidden_states)
        logits = self.classifier(self.dropout(output.last_hidden_state))  # (batch, tokens, num_labels)
        loss = None if labels is None else cross_entropy(logits, labels)
        return returned(HeadOutput(loss, logits, output.hidden_states, output.attentions), return_dict)


class BertForMultipleChoice(BertWithHead):
    """Which of several continuations, answers or summaries belongs to a text: one score for each, read off `[CLS]`."""

    pooler = True

    def add_heads(self, config: BertConfig) -> None:
        """Make the one output that scores a choice."""
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, 1)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> HeadOutput:
        """Return logits (batch, choices); `labels` (batch,) are the numbers of the right choices.

        The inputs are those of `BertModel.forward` with one dimension more: (batch, choices, tokens). States and
        attentions come back as (batch · choices, ...).
        """
        given = inputs_embeds if input_ids is None else input_ids
        if given is None:
            raise ValueError("pass exactly one of input_ids and inputs_embeds")
        if input_ids is not None:
            check_form("input_ids", input_ids, "(batch, choices, tokens)")
        choices = given.shape[1]
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        rows = (None if part is None else part.flatten(0, 1) for part in inputs)  # each (batch · choices, tokens, ...)
        chosen = None if output_hidden_states else first_token
        output = self.bert(*rows, output_attentions, output_hidden_states, chosen=chosen)
        scores = self.classifier(self.dropout(output.pooler_output))  # (batch · choices, 1)
        logits = scores.view(-1, choices)  # (batch, choices)
        loss = None if labels is None else cross_entropy(logits, labels)
        return returned(HeadOutput(loss, logits, output.hidden_states, output.attentions), return_dict)


class BertForQuestionAnswering(BertWithHead):
    """Where an answer starts and where it ends, scored at every token."""

    def __init__(self, config: BertConfig) -> None:
        check_config(type(self), config)
        super().__init__(config.replace(num_labels=2))  # start and end; Transformers sizes its head by the config

    def add_heads(self, config: BertConfig) -> None:
        """Make the outputs for start and end."""
        self.qa_outputs = nn.Linear(config.hidden_size, 2)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SpanOutput:
        """Return start and end logits (batch, tokens).

        `start_positions` and `end_positions` (batch,) are token indices; a position outside the input is ignored.
        """
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        output = self.bert(*inputs, output_attentions, output_hidden_states)
        start, end = self.qa_outputs(output.last_hidden_state).unbind(-1)  # each (batch, tokens)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = (span_loss(start, start_positions) + span_loss(end, end_positions)) / 2
        return returned(SpanOutput(loss, start, end, output.hidden_states, output.attentions), return_dict)


def classifier_dropout(config: BertConfig) -> Dropout:
    """Return the dropout before a classification head."""
    return Dropout(config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood in fp32 over the labels that are not -100; 0, not NaN, if all are.

    A label that is no class is a ValueError on a CPU, where noticing it costs nothing.
    """
    logits, labels = logits.flatten(0, -2).float(), labels.flatten()  # (labels, classes), (labels,)
    try:
        total = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    except IndexError:  # raised on a CPU only
        raise _no_class(labels, logits.shape[-1]) from None
    return total / (labels != IGNORED).sum().clamp(min=1)


def _no_class(labels: Tensor, classes: int) -> ValueError:
    counted = labels[labels != IGNORED]
    wrong = int(counted.min()) if int(counted.min()) < 0 else int(counted.max())
    return ValueError(
        f"labels holds {wrong}, and there are {classes} classes, 0 to {classes - 1}; count from 0, set num_labels, and "
        f"write {IGNORED} where nothing is to be learned"
    )


def span_loss(logits: Tensor, positions: Tensor) -> Tensor:
    """Cross-entropy over the tokens of (batch, tokens); a position outside the input counts for nothing."""
    tokens = logits.shape[1]
    inside = (positions >= 0) & (positions < tokens)
    return cross_entropy(logits, torch.where(inside, positions, IGNORED))


def sequence_loss(logits: Tensor, labels: Tensor, config: BertConfig) -> Tensor:
    """Squared error, binary cross-entropy for every label, or cross-entropy, as the config and the labels say."""
    kind = config.problem_type
    if kind is None and config.num_labels == 1:
        kind = "regression"
    elif kind is None:
        kind = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
    if kind == "regression":
        return F.mse_loss(logits.float().squeeze(-1), labels.float().reshape(logits.squeeze(-1).shape))
    if kind == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(logits.float(), labels.float())
    return cross_entropy(logits, labels)
