"""Prediction over many rows: evaluation mode, sorted by length, in the precision of the device."""

from __future__ import annotations

import torch
from torch import Tensor

from companion.model.heads import BertWithHead
from companion.support.devices import autocast, precision_for
from companion.training.batching import Rows, as_arrays, pad_rows, row_lengths, sorted_batches, take_rows


@torch.inference_mode()
def predicted_logits(
    model: BertWithHead, rows: Rows, *, batch_size: int = 32, pad_id: int = 0, precision: str | None = None
) -> Tensor:
    """Return the logits of a model with one output a row, (rows, labels), in fp32, on the CPU.

    Parameters
    ----------
    model : BertForSequenceClassification
        Is put into evaluation mode.
    rows : mapping of str to sequence
        The columns that `model` takes, as in `GroupedBatches`.
    batch_size, pad_id, precision
        As in `TextClassifier`.
    """
    model.eval()
    columns = as_arrays(rows)
    device = next(model.parameters()).device
    logits = torch.empty(len(columns["input_ids"]), model.config.num_labels)
    with autocast(device, precision_for(device, precision)):
        for indices in sorted_batches(row_lengths(columns), batch_size):
            batch = pad_rows(take_rows(columns, indices), pad_id=pad_id)
            batch = {name: value.to(device) for name, value in batch.items()}
            logits[indices] = model(**batch).logits.float().cpu()
    return logits
