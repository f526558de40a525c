"""A few new weights, trained in the place of all: the adapters of the library PEFT in a network of this package."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors.torch import load_file, save_file
from torch import nn

from companion.config import BertConfig
from companion.finetuning.new_head import with_new_head
from companion.model.checkpoints import (
    ADAPTER_WEIGHTS,
    adapter_from_transformers,
    adapter_to_transformers,
    weights_checksum,
)
from companion.model.heads import BertWithHead
from companion.support.devices import generators_kept, seed_everything
from companion.support.files import write_json
from companion.support.locate import bundled_names, locate
from companion.support.require import refuse

if TYPE_CHECKING:
    from peft import PeftConfig

Model = TypeVar("Model", bound=BertWithHead)
PREFIX = "base_model.model."  # before the names of weights in PEFT's files
RATE_SCALE = 5  # the learning rate of an adapter, as a multiple of that of the whole network
NAMES = ("lora", "ia3")
LINEAR = ("query", "key", "value", "attention.output", "expand", "contract")  # the linear layers of the encoder


def adapter_config(adapter: str | PeftConfig) -> PeftConfig:
    """Return the configuration of an adapter by its name, or a copy of one of the caller's own.

    Parameters
    ----------
    adapter : {"lora", "ia3"} or PeftConfig
        "lora" adds to every matrix of the encoder a product of two thin ones, of rank 8, scaled by 2 (Hu et al. 2021,
        section 4.1; all matrices as in Schulman 2025); "ia3" multiplies keys, values and the inner activations of the
        feed-forward network by learned vectors (Liu et al. 2022, section 3.3).

    Raises
    ------
    ModuleNotFoundError
        If PEFT is not installed.
    ValueError
        If the name is unknown, or the adapter of a kind that cannot be saved for Transformers too.
    """
    peft = _peft()
    made = {
        "lora": lambda: peft.LoraConfig(r=8, lora_alpha=16, target_modules=list(LINEAR)),
        "ia3": lambda: peft.IA3Config(target_modules=["key", "value", "contract"], feedforward_modules=["contract"]),
    }
    if isinstance(adapter, str) and adapter in made:
        return made[adapter]()
    if isinstance(adapter, peft.PeftConfig) and _kind(adapter) in ADAPTER_WEIGHTS:
        return type(adapter)(**{name: value for name, value in adapter.to_dict().items() if name != "peft_type"})
    refuse("adapter", adapter, f"None, {', '.join(map(repr, NAMES))} or a PeftConfig of {', '.join(ADAPTER_WEIGHTS)}")


def check_adapter(adapter: Any, others: Mapping[str, Any]) -> None:
    """Raise an error unless `adapter` is None or an adapter, and none of `others`, parameters by name, is set.

    Raises
    ------
    ModuleNotFoundError, ValueError
        As `adapter_config`.
    """
    if adapter is None:
        return
    adapter_config(adapter)
    for name, value in others.items():
        if value:
            raise ValueError(f"{name}={value!r} with an adapter: all but adapter and head is frozen then; drop one")


def put_adapter(model: BertWithHead, adapter: str | PeftConfig, seed: int) -> None:
    """Put an adapter into a model, in place; it and the head are then all that is trained.

    The new weights come from `seed`; the generators of the caller are left as they were.

    Raises
    ------
    ValueError
        If the configuration names no part of the network.
    """
    import peft

    config = adapter_config(adapter)
    config.exclude_modules = config.exclude_modules or heads_of(model)  # "all-linear" would take the head too
    with generators_kept():
        seed_everything(seed)
        peft.inject_adapter_in_model(config, model)
    for name in heads_of(model):
        model.get_submodule(name).requires_grad_(True)


def heads_of(model: BertWithHead) -> list[str]:
    """Return the names of the parts with weights that a model has beside the encoder."""
    return [name for name, part in model.named_children() if name != "bert" and any(True for _ in part.parameters())]


def adapter_of(model: nn.Module) -> PeftConfig | None:
    """Return the configuration of the adapter in a model, or None."""
    return getattr(model, "peft_config", {}).get("default")


def merge_adapter(model: nn.Module) -> None:
    """Add an adapter to the weights that it adapts, in place: the model is then one like any other."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge(safe_merge=True)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer.get_base_layer())
    del model.peft_config
    model.requires_grad_(True)


def write_adapter(model: BertWithHead, base: str | Path, folder: Path) -> None:
    """Write the adapter and the head of a model in PEFT's format, as it would be for Transformers' BERT.

    Parameters
    ----------
    model : BertWithHead
    base : str or Path
        The pre-trained network below, as in `from_pretrained`; its name and the checksum of its weights are kept.
    folder : Path
        Holds `adapter_model.safetensors`, `adapter_config.json` and the network's `config.json` afterwards.
    """
    from peft import get_peft_model_state_dict

    adapter = adapter_of(model)
    assert adapter is not None  # the caller has looked
    config = adapter_config(adapter)
    heads = heads_of(model)
    config.modules_to_save, config.inference_mode = heads, True
    config.base_model_name_or_path = base_name(base)
    state = {name: tensor for name, tensor in model.state_dict().items() if name.split(".")[0] in heads}
    state |= get_peft_model_state_dict(model)
    with tempfile.TemporaryDirectory() as ours:
        config.save_pretrained(ours)
        tensors = {PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        save_file(tensors, Path(ours) / "adapter_model.safetensors", metadata={"format": "pt"})
        adapter_to_transformers(ours, folder)
    write_json(folder / "config.json", model.config.to_dict() | {"architectures": [type(model).__name__]})


def read_adapted(folder: Path, model_class: type[Model], base: Mapping[str, str]) -> Model:
    """Return the network of a folder that `write_adapter` wrote, in evaluation mode.

    Parameters
    ----------
    folder : Path
    model_class : type
    base : mapping
        What `base_record` returned when it was written.

    Raises
    ------
    FileNotFoundError
        If the network below is not there.
    ValueError
        If its weights are others than those that the adapter was trained on.
    """
    peft = _peft()
    if weights_checksum(locate(base["name"])) != base["checksum"]:
        raise ValueError(
            f"folder={str(folder)!r} holds an adapter of {base['name']!r} with other weights than are there now; find "
            "those it was trained on, or train it again"
        )
    entries = BertConfig.from_file(folder)
    model = with_new_head(model_class, base["name"], **_own_entries(entries))
    with tempfile.TemporaryDirectory() as ours:
        adapter_from_transformers(folder, ours)
        config = peft.PeftConfig.from_pretrained(ours)
        state = load_file(Path(ours) / "adapter_model.safetensors")
    state = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    heads = {name: state.pop(name) for name in list(state) if name.split(".")[0] in config.modules_to_save}
    model.load_state_dict(heads, strict=False)
    config.modules_to_save = None
    peft.inject_adapter_in_model(config, model)
    peft.set_peft_model_state_dict(model, state)
    return model.eval()


def base_record(base: str | Path) -> dict[str, str]:
    """Return the name of a pre-trained network and the checksum of its weights."""
    return {"name": base_name(base), "checksum": weights_checksum(locate(base))}


def base_name(base: str | Path) -> str:
    """Return the whole path of a folder, and a bundled name or hub id as it is."""
    is_bundled = isinstance(base, str) and base in bundled_names()
    return str(Path(base).resolve()) if Path(base).is_dir() and not is_bundled else str(base)


def _own_entries(config: BertConfig) -> dict[str, Any]:
    """Return the entries of a config that fine-tuning sets: of the head and of dropout."""
    names = "num_labels labels problem_type classifier_dropout hidden_dropout_prob attention_probs_dropout_prob".split()
    return {name: getattr(config, name) for name in names}


def _kind(config: PeftConfig) -> str:
    return getattr(config.peft_type, "value", str(config.peft_type))


def _peft() -> Any:
    try:
        import peft
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("adapters need PEFT; run: pip install 'bert-companion[adapters]'") from error
    return peft
