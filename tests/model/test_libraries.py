"""Models in the hands of other libraries: PEFT, transformers.Trainer, torch.export, torch.compile, ONNX."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn

from companion.config import BertConfig
from companion.model.checkpoints import adapter_from_transformers, adapter_to_transformers
from companion.model.encoder import BertModel
from companion.model.heads import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from tests.models import IDS, MASK, make

SPANS = {"start_positions": torch.tensor([0, 1]), "end_positions": torch.tensor([1, 3])}
TASKS = [
    ("SEQ_CLS", BertForSequenceClassification, {"labels": torch.tensor([0, 4])}),
    ("TOKEN_CLS", BertForTokenClassification, {"labels": IDS % 5}),
    ("QUESTION_ANS", BertForQuestionAnswering, SPANS),
    ("FEATURE_EXTRACTION", BertModel, {}),
    (None, BertForMaskedLM, {"labels": IDS}),
    (None, BertForPreTraining, {"labels": IDS, "next_sentence_label": torch.tensor([0, 1])}),
    (None, BertForMultipleChoice, {"labels": torch.tensor([0, 0])}),
]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's use
MODELS = [cls for _, cls, _ in TASKS]


def batch(cls: type[nn.Module], rows: int = 2, tokens: int = 4) -> dict[str, Tensor]:
    inputs = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": (IDS > 6).long()}
    inputs = {name: values.repeat(2, 1)[:rows, :tokens] for name, values in inputs.items()}
    if cls is BertForMultipleChoice:
        inputs = {name: values[:, None].repeat(1, 2, 1) for name, values in inputs.items()}
    return inputs


def adapted(model: nn.Module, task: str | None = None, seed: int = 0, **options: object) -> PeftModel:
    """Put LoRA layers with random weights into a model."""
    torch.manual_seed(seed)
    return get_peft_model(model, LoraConfig(task_type=task, r=2, init_lora_weights=False, **options)).eval()


@torch.no_grad()
def first(model: nn.Module, **inputs: Tensor) -> Tensor:
    return model(**inputs)[0]


@pytest.mark.parametrize(("task", "cls", "labels"), TASKS)
@pytest.mark.parametrize("target_modules", [None, ["query", "value"], ["expand", "contract"]])
def test_peft_trains_saves_loads_and_merges_every_model(tmp_path, small_config, task, cls, labels, target_modules):
    model = adapted(make(cls, small_config), task, target_modules=target_modules)
    inputs = batch(cls)
    if task == "QUESTION_ANS":  # PEFT takes the segments and does not hand them on
        del inputs["token_type_ids"]
    if labels:
        loss = model(**inputs, **labels).loss
        torch.testing.assert_close(loss, model.get_base_model()(**inputs, **labels).loss)
        loss.backward()
        trained = [name for name, p in model.named_parameters() if p.requires_grad]
        assert trained and all("lora_" in name or "modules_to_save" in name for name in trained)
    expected = first(model, **inputs)
    assert not torch.allclose(expected, first(make(cls, small_config), **inputs), atol=1e-3)
    model.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(make(cls, small_config), tmp_path / "adapter").eval()
    torch.testing.assert_close(first(again, **inputs), expected)
    merged = again.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    opened = cls.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(first(opened, **inputs), expected, atol=1e-5, rtol=1e-5)


def test_a_network_with_adapters_in_it_is_not_saved_as_a_model(tmp_path: Path, small_config: BertConfig):
    model = adapted(make(BertForSequenceClassification, small_config), "SEQ_CLS")
    for inside in (model.get_base_model(), model.get_base_model().bert):
        with pytest.raises(ValueError, match=r"holds adapters \(.*\).*merge_and_unload.*save_pretrained\(folder\)"):
            inside.save_pretrained(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


ADAPTERS = [
    {},
    {"target_modules": "all-linear"},
    {"target_modules": ["expand", "contract"], "layers_to_transform": [1], "layers_pattern": "layers"},
    {"target_modules": r".*layers\.0\.(attention\.(query|key|value|output)|feed_forward\.\w+)"},
    {"target_modules": ["query"], "use_dora": True, "rank_pattern": {"layers.1.attention.query": 3}},
]


def pair(cls: type[nn.Module], config: BertConfig, folder: Path) -> tuple[nn.Module, nn.Module]:
    """Return a model of ours and the same one of Transformers."""
    ours = make(cls, config)
    ours.save_pretrained(folder)
    return ours, getattr(transformers, cls.__name__).from_pretrained(folder).eval()


@pytest.mark.parametrize("options", ADAPTERS)
@pytest.mark.parametrize(("task", "cls"), [("SEQ_CLS", BertForSequenceClassification), (None, BertModel)])
def test_an_adapter_trained_here_does_the_same_in_transformers(tmp_path, small_config, task, cls, options):
    ours, theirs = pair(cls, small_config, tmp_path / "base")
    model = adapted(ours, task, **options)
    expected = first(model, **batch(cls))
    model.save_pretrained(tmp_path / "ours")
    adapter_to_transformers(tmp_path / "ours", tmp_path / "theirs")
    found = PeftModel.from_pretrained(theirs, tmp_path / "theirs").eval()
    torch.testing.assert_close(first(found, **batch(cls)), expected, atol=1e-5, rtol=1e-5)
    adapter_from_transformers(tmp_path / "theirs", tmp_path / "back")
    back = PeftModel.from_pretrained(make(cls, small_config), tmp_path / "back").eval()
    torch.testing.assert_close(first(back, **batch(cls)), expected)
    assert (
        load_file(tmp_path / "back" / "adapter_model.safetensors").keys()
        == load_file(tmp_path / "ours" / "adapter_model.safetensors").keys()
    )


def test_an_adapter_of_transformers_does_the_same_here(tmp_path: Path, small_config: BertConfig):
    ours, theirs = pair(BertForTokenClassification, small_config, tmp_path / "base")
    model = adapted(theirs, "TOKEN_CLS", target_modules=["query", "value", "intermediate.dense", "output.dense"])
    expected = first(model, **batch(BertForTokenClassification))
    model.save_pretrained(tmp_path / "theirs")
    adapter_from_transformers(tmp_path / "theirs", tmp_path / "ours")
    found = PeftModel.from_pretrained(ours, tmp_path / "ours").eval()
    torch.testing.assert_close(first(found, **batch(BertForTokenClassification)), expected, atol=1e-5, rtol=1e-5)


def test_what_no_name_map_covers_is_refused(tmp_path: Path, small_config: BertConfig):
    adapted(make(BertForMaskedLM, small_config), modules_to_save=["mlm_head"]).save_pretrained(tmp_path / "head")
    with pytest.raises(ValueError, match="modules_to_save=.*a head of the same name in both libraries"):
        adapter_to_transformers(tmp_path / "head", tmp_path / "out")
    (tmp_path / "head" / "adapter_config.json").write_text('{"peft_type": "VERA"}')
    with pytest.raises(ValueError, match="peft_type='VERA' is not allowed; it must be one of LORA, IA3"):
        adapter_to_transformers(tmp_path / "head", tmp_path / "out")


@pytest.mark.parametrize("saving", [False, True], ids=["", "checkpointing"])
def test_the_trainer_of_transformers_trains_ours_as_its_own(tmp_path: Path, small_config: BertConfig, saving: bool):
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = small_config.replace(**off)
    ours, theirs = pair(BertForSequenceClassification, config, tmp_path / "base")
    generator = torch.Generator().manual_seed(0)
    rows = [{"input_ids": torch.randint(5, 50, (6,), generator=generator), "labels": i % 5} for i in range(12)]
    results = []
    for name, model in (("ours", ours), ("theirs", theirs)):
        arguments = transformers.TrainingArguments(
            str(tmp_path / name),
            max_steps=4,
            per_device_train_batch_size=4,
            learning_rate=1e-2,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
            activation_checkpointing=saving,
        )
        trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
        trainer.train()
        results.append((trainer.evaluate()["eval_loss"], torch.tensor(trainer.predict(rows).predictions)))
    assert ours.is_gradient_checkpointing == saving
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-4, rtol=1e-4)
    assert ours.config == config and not hasattr(ours.config.to_dict(), "use_cache")


def test_what_the_trainer_saves_opens_again(tmp_path: Path, small_config: BertConfig):
    model = make(BertForSequenceClassification, small_config)
    arguments = transformers.TrainingArguments(str(tmp_path / "run"), report_to=[], use_cpu=True)
    transformers.Trainer(model=model, args=arguments).save_model(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text(small_config.to_json_string())  # it saves the weights alone
    found = BertForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert torch.equal(found(IDS).logits, model(IDS).logits)


def dimensions(inputs: dict[str, Tensor]) -> dict[str, dict[int, torch.export.Dim]]:
    """Let the rows and the tokens of every input vary."""
    rows, tokens = torch.export.Dim("rows", min=1, max=64), torch.export.Dim("tokens", min=2, max=16)
    return {name: {0: rows, values.dim() - 1: tokens} for name, values in inputs.items()}


@pytest.mark.parametrize("cls", MODELS)
def test_every_model_is_exported_for_any_number_of_rows_and_tokens(small_config: BertConfig, cls: type[nn.Module]):
    model, inputs = make(cls, small_config), batch(cls)
    program = torch.export.export(model, (), kwargs=inputs, dynamic_shapes=dimensions(inputs))
    for rows, tokens in ((2, 4), (3, 2), (1, 3)):
        other = batch(cls, rows, tokens)
        found, expected = program.module()(**other), model(**other)
        assert type(found) is type(expected)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_an_export_has_the_states_and_weights_that_are_asked_for(small_config: BertConfig):
    model, asked = make(BertModel, small_config), {"output_hidden_states": True, "output_attentions": True}
    program = torch.export.export(model, (), kwargs=batch(BertModel) | asked)
    found, expected = (network(**batch(BertModel), **asked) for network in (program.module(), model))
    for a, b in zip(found.hidden_states + found.attentions, expected.hidden_states + expected.attentions, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    leaves, structure = torch.utils._pytree.tree_flatten(expected)
    assert len(leaves) == 2 + 3 + 2 and torch.utils._pytree.tree_unflatten(leaves, structure) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("task", "cls", "labels"), TASKS)
def test_every_model_compiles_whole(small_config: BertConfig, task: object, cls: type[nn.Module], labels: dict):
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = make(cls, small_config.replace(num_hidden_layers=1, **off))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=True)
    for rows, tokens in ((2, 4), (3, 3)):
        other = batch(cls, rows, tokens)
        torch.testing.assert_close(first(compiled, **other), first(model, **other))
    model.train()
    output = compiled(**batch(cls), **labels)
    (output.loss if labels else output.last_hidden_state.sum()).backward()
    gradient = model.get_input_embeddings().weight.grad.clone()
    model.zero_grad()
    output = model(**batch(cls), **labels)
    (output.loss if labels else output.last_hidden_state.sum()).backward()
    torch.testing.assert_close(gradient, model.get_input_embeddings().weight.grad)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter warns of its own parts
@pytest.mark.parametrize("cls", MODELS)
def test_every_model_runs_in_onnx(tmp_path: Path, small_config: BertConfig, cls: type[nn.Module]):
    model, inputs = make(cls, small_config), batch(cls)
    path = str(tmp_path / "model.onnx")
    torch.onnx.export(model, (), path, kwargs=inputs, dynamic_shapes=dimensions(inputs), dynamo=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for rows, tokens in ((2, 4), (3, 2)):
        other = batch(cls, rows, tokens)
        names = [each.name for each in session.get_inputs()]
        found = session.run(None, {name: other[name].numpy() for name in names})
        for a, b in zip(found, model(**other).to_tuple(), strict=True):
            torch.testing.assert_close(torch.from_numpy(a), b, atol=1e-5, rtol=1e-4)
