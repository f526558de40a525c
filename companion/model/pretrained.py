"""What every model can do beside computing: load, save, and be changed, under the names that Transformers gave it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from companion.config import BertConfig
from companion.model.checkpoints import fit_weights, read_weights, refuse_adapters, write_checkpoint
from companion.model.names import from_transformers
from companion.support.locate import locate
from companion.support.require import integer, require, shortened


class PreTrained(nn.Module):
    """Base of all models: what users of pre-trained models expect of one.

    Parameters
    ----------
    config : BertConfig
        The shape of the network; an attribute too.
    """

    supports_gradient_checkpointing = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        check_config(type(self), config)
        self.config = config

    @classmethod
    def from_pretrained(cls, name: str | Path, **changes: Any) -> Self:
        """Return the model with the weights of a checkpoint, in evaluation mode, in fp32, on the CPU.

        Heads that the checkpoint does not have are drawn as `cls(config)` would draw them at this moment; the state of
        PyTorch's generator is the same afterwards as before.

        Parameters
        ----------
        name : str or Path
            A bundled name (`"mini"`), a folder, or a hub id.
        **changes
            Entries of `BertConfig` to set otherwise than on file, such as `labels` or `hidden_dropout_prob`.

        Raises
        ------
        FileNotFoundError
            If there is no such checkpoint.
        TypeError
            If a change is no entry of the config; names the nearest one.
        ValueError
            If its weights do not fit.
        """
        folder = locate(name)
        config = BertConfig.from_file(folder).replace(**changes)
        with torch.device("meta"):  # no memory and no random numbers for weights that come from the file
            model = cls(config)
        expected = model.state_dict()
        weights, new = fit_weights(model, from_transformers(read_weights(folder)), source=str(name))
        weights = {name: tensor.to(expected[name].dtype, copy=True) for name, tensor in weights.items()}
        if new or len(list(model.buffers())):
            weights |= _drawn(cls, config, new, model)
        model.load_state_dict(weights, assign=True)
        return model.eval()

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors`; Transformers opens the folder unchanged.

        Each file is replaced whole and at once; files of older weights in the folder are removed. What else lies in it
        (a vocabulary, a card, folders) is not touched.

        Parameters
        ----------
        folder : str or Path
            Where to write; made if it is not there.
        dtype : torch.dtype, optional
            Store the weights in this type, for example `torch.float16` at half the size.

        Raises
        ------
        ValueError
            If `folder` is a file, or the network holds adapters, which must be merged first.
        """
        state = self.state_dict()
        refuse_adapters(state)
        state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in state.items()}
        write_checkpoint(folder, state, self.config.to_dict() | {"architectures": [type(self).__name__]})

    @property
    def base_model(self) -> Any:
        """The encoder without heads."""
        return getattr(self, "bert", self)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next(self.parameters()).dtype

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return how many numbers the network has learned, or can learn.

        Parameters
        ----------
        only_trainable : bool
            Leave out what is frozen (`requires_grad=False`).
        exclude_embeddings : bool
            Leave out the token, position and segment vectors.
        """
        left_out = set()
        if exclude_embeddings:
            left_out = {part.weight for part in self.modules() if isinstance(part, nn.Embedding)}
        counted = (p for p in self.parameters() if p not in left_out and (p.requires_grad or not only_trainable))
        return sum(parameter.numel() for parameter in counted)

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the token embeddings."""
        return self.base_model.embeddings.tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Put other token embeddings in their place; a masked-language head shares them."""
        self.base_model.embeddings.tokens = value

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None
    ) -> nn.Embedding:
        """Change the number of token embeddings, in place; a masked-language head and the config follow.

        Rows that stay keep their values. A new row is the mean of the old ones, so that before any training a new token
        is about as likely as the average one (Hewitt 2021, "Initializing New Word Embeddings"). Several new rows are
        alike: where tokens must differ from the start, as markers of head and tail, copy other rows into them. Make an
        optimiser afterwards: an older one holds the old parameters.

        Parameters
        ----------
        new_num_tokens : int, optional
            Rows wanted, usually `tokenizer.vocab_size`; the present number by default.
        pad_to_multiple_of : int, optional
            Round up to a multiple of this, for the sake of tensor cores.

        Returns
        -------
        torch.nn.Embedding
            The new embeddings; the old ones if nothing changes.

        Raises
        ------
        ValueError
            If a number is out of range, or `[PAD]` would be lost.
        """
        old = self.get_input_embeddings()
        count = old.num_embeddings if new_num_tokens is None else integer("new_num_tokens", new_num_tokens, 1)
        if pad_to_multiple_of is not None:
            multiple = integer("pad_to_multiple_of", pad_to_multiple_of, 1)
            count = -(-count // multiple) * multiple
        pad = self.config.pad_token_id
        require("new_num_tokens", count, count > pad, f"above pad_token_id={pad}")
        if count == old.num_embeddings:
            return old
        weight = _resized(old.weight, count)
        new = nn.Embedding.from_pretrained(weight, freeze=not old.weight.requires_grad, padding_idx=old.padding_idx)
        self.set_input_embeddings(new)
        if (head := getattr(self, "mlm_head", None)) is not None:
            head.bias = nn.Parameter(_resized(head.bias, count), requires_grad=head.bias.requires_grad)
        self.config = self.base_model.config = self.config.replace(vocab_size=count)
        return new

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Keep only the input of a layer for the backward pass and compute the rest again (Chen et al. 2016).

        Training takes longer and far less memory; loss and gradients stay the same.

        Parameters
        ----------
        gradient_checkpointing_kwargs : mapping, optional
            Passed to `torch.utils.checkpoint.checkpoint`.
        every_n_layers : int
            1 does so in every layer, 2 in every second one.
        offload : bool
            Must be False: nothing is moved to another device.
        """
        require("offload", offload, offload is False, "False; this package moves no activations to another device")
        self.base_model.encoder.checkpointing = {"use_reentrant": False} | dict(gradient_checkpointing_kwargs or {})
        self.base_model.encoder.checkpointed_every = integer("every_n_layers", every_n_layers, 1)

    def gradient_checkpointing_disable(self) -> None:
        """Keep everything for the backward pass again."""
        self.base_model.encoder.checkpointing = None

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether gradient checkpointing is on."""
        return self.base_model.encoder.checkpointing is not None

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        """Do what `gradient_checkpointing_enable` does, under the name that Transformers gives it from 5.23 on."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs, **options)


def check_config(cls: type, config: Any) -> None:
    """Raise a TypeError that says how a model is made, if `config` is no `BertConfig`."""
    if isinstance(config, BertConfig):
        return
    if isinstance(config, str | Path):
        advice = f"did you mean {cls.__name__}.from_pretrained({str(config)!r})?"
    elif hasattr(config, "to_dict"):
        advice = "pass BertConfig.from_dict(config.to_dict())"
    else:
        advice = "pass a companion.BertConfig, such as BertConfig.preset('mini')"
    raise TypeError(f"config={shortened(config)} is of type {type(config).__name__}; {advice}")


def _drawn(cls: type[PreTrained], config: BertConfig, new: list[str], model: nn.Module) -> dict[str, Tensor]:
    """Return freshly made heads, with the generator left as it was; and set the buffers that no file holds."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        fresh = cls(config)
    for name, buffer in fresh.named_buffers():
        module, _, short = name.rpartition(".")
        model.get_submodule(module).register_buffer(short, buffer, persistent=name in model.state_dict())
    state = fresh.state_dict()
    return {name: state[name] for name in new}


@torch.no_grad()
def _resized(rows: Tensor, count: int) -> Tensor:
    """Return the first `count` rows, with copies of their mean added where there are too few."""
    if count <= len(rows):
        return rows[:count].clone()
    added = rows.mean(dim=0, keepdim=True).expand(count - len(rows), *rows.shape[1:])
    return torch.cat([rows, added])
