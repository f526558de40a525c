"""What the chapter on BERT's relatives says of them, held against Transformers' own classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from companion import BertModel

BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
RELATIVE = {"relative_attention": True, "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 256}
BART = {"encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072}
BART |= {"encoder_attention_heads": 12, "decoder_attention_heads": 12, "d_model": 768}
# Class, entries of the released model that differ from the defaults of its config, parameters.
RELATIVES = {
    "OpenAIGPT": ({}, 116_534_784),
    "Roberta": ({"max_position_embeddings": 514, "type_vocab_size": 1}, 124_645_632),
    "Albert": (BASE, 11_683_584),
    "DistilBert": ({}, 66_362_880),
    "Electra": ({}, 13_483_008),
    "DebertaV2": (
        BASE | RELATIVE | {"num_hidden_layers": 12, "norm_rel_ebd": "layer_norm", "position_biased_input": False},
        183_831_552,
    ),
    "ModernBert": ({}, 149_014_272),
    "T5": ({"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}, 222_903_552),
    "Bart": (BART, 139_420_416),
}


@pytest.mark.parametrize("name", RELATIVES)
def test_the_parameters_of_a_relative(name: str):
    entries, count = RELATIVES[name]
    config = getattr(transformers, f"{name}Config")(**entries)
    with torch.device("meta"):
        model = getattr(transformers, f"{name}Model")(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.fixture
def roberta() -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 128}
    positions = {"max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}
    return transformers.RobertaModel(transformers.RobertaConfig(vocab_size=50, **sizes, **positions)).eval()


def test_a_roberta_is_refused_and_named_as_a_bert_it_needs_positions_from_two(roberta, tmp_path: Path):
    roberta.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'roberta' is not 'bert'"):
        BertModel.from_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "bert"}))
    ours, ids = BertModel.from_pretrained(tmp_path), torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        theirs = roberta(ids).last_hidden_state
        assert torch.allclose(ours(ids, position_ids=torch.arange(2, 7)[None]).last_hidden_state, theirs, atol=1e-5)
        assert not torch.allclose(ours(ids).last_hidden_state, theirs, atol=1e-2)


def test_a_roberta_takes_512_tokens_and_no_second_segment(roberta):
    with torch.no_grad():
        assert roberta(torch.full((1, 512), 5)).last_hidden_state.shape[1] == 512
        with pytest.raises((IndexError, RuntimeError)):
            roberta(torch.full((1, 514), 5))
        with pytest.raises(IndexError):
            roberta(torch.full((1, 4), 5), token_type_ids=torch.ones(1, 4, dtype=torch.long))


def test_distilbert_ignores_segments():
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(dim=64, n_layers=1, n_heads=1, hidden_dim=128, vocab_size=50)
    model, ids = transformers.DistilBertModel(config).eval(), torch.full((1, 4), 5)
    with torch.no_grad():
        first = model(ids).last_hidden_state
        assert torch.equal(model(ids, token_type_ids=torch.ones_like(ids)).last_hidden_state, first)
