"""BERT on one page: from tokens up to answers, with shapes and numbers of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch.nn import Module

from companion.config import BertConfig
from companion.model.encoder import BertModel, EncoderLayer
from companion.model.heads import BertForPreTraining
from companion.show.drawing import Drawing
from companion.show.shown import Picture

TOKENS = ("[CLS]", "the", "mud", "##dy", "[MASK]", "[SEP]")
# What is drawn: x, y, width, height, and the page that tells about it.
PLACES = {
    "the tokenizer": (10, 604, 420, 36, "model/wordpiece"),
    "embeddings": (10, 508, 420, 76, "model/embeddings"),
    "attention": (50, 356, 340, 86, "attention/by_hand"),
    "the feed-forward network and the layer": (50, 240, 340, 66, "model/encoder"),
    "masked words": (10, 88, 132, 74, "pretraining/masking"),
    "the next sentence": (154, 88, 132, 74, "pretraining/next_sentence"),
    "fine-tuning": (298, 88, 132, 74, "finetuning/recipe"),
    "pre-training": (10, 16, 276, 50, "pretraining/train"),
    "applications": (298, 16, 132, 50, "applications/search"),
}


# Parts for pages that have none of their own, by folder.
OF_FOLDER = {"pretraining": "pre-training", "finetuning": "fine-tuning", "applications": "applications"}


def poster(link: Callable[[str], str] | None = None, *, size: str = "mini") -> Picture:
    """Draw BERT from its tokens to its answers.

    Parameters
    ----------
    link : callable, optional
        Takes the name of a page of the book, such as "attention/by_hand", and returns its address; parts of the picture
        become links.
    size : str
        The preset whose shapes and weights are written in, with the vocabulary of the book's own BERT.

    Returns
    -------
    Picture
    """
    config = BertConfig.preset(size, vocab_size=8192)
    weights = count_weights(config)
    drawing = Drawing(440, 650)
    _tokens_and_embeddings(drawing, config, weights)
    _layer(drawing, config, weights)
    _heads(drawing, config, weights)
    for title, (x, y, width, height, page) in PLACES.items():
        if link:
            drawing.link(x, y, width, height, link(page), f"Read about {title}")
    return drawing.picture(f"BERT on one page: tokens, three embeddings, {config.num_hidden_layers} layers, heads")


def parts_of(page: str) -> list[str]:
    """Return the parts of the picture that a page is about, none for a page on all of it or on what came before.

    >>> parts_of("model/encoder"), parts_of("pretraining/scale")
    (['the feed-forward network and the layer'], ['pre-training'])
    """
    own = [title for title, place in PLACES.items() if place[-1] == page]
    folder = OF_FOLDER.get(page.partition("/")[0])
    return own or ([folder] if folder else [])


def miniature(page: str) -> Picture | None:
    """Draw the poster small and without words, the parts that a page is about filled; None if there are none."""
    parts = parts_of(page)
    if not parts:
        return None
    drawing = Drawing(110, 163)
    drawing.box(2.5, 44, 105, 77, strength=0)  # a layer, around attention and the feed-forward network
    for title, (x, y, width, height, _) in PLACES.items():
        colour, strength = ("pre-trained", 85) if title in parts else ("muted", 8)
        drawing.box(x / 4, y / 4, width / 4, height / 4, colour=colour, strength=strength)
    return drawing.picture(f"Where this page is in BERT: {', '.join(parts)}")


def count_weights(config: BertConfig) -> dict[str, int]:
    """Return the number of weights of each part of a BERT; nothing is allocated."""
    with torch.device("meta"):
        model = BertForPreTraining(config)
    bert: BertModel = model.bert
    layer = cast(EncoderLayer, bert.encoder.layers[0])
    parts: dict[str, Module] = {
        "embeddings": bert.embeddings,
        "attention": layer.attention,
        "feed-forward": layer.feed_forward,
        "layer": layer,
    }
    counts = {name: sum(weight.numel() for weight in part.parameters()) for name, part in parts.items()}
    return counts | {"all": sum(weight.numel() for weight in model.parameters())}


def _tokens_and_embeddings(drawing: Drawing, config: BertConfig, weights: dict[str, int]) -> None:
    for i, token in enumerate(TOKENS):
        special = token in ("[CLS]", "[SEP]")
        colour = "special" if special else "mask" if token == "[MASK]" else "muted"
        drawing.box(10 + 71 * i, 604, 65, 36, token, colour=colour, size=14)
        drawing.arrow(42 + 71 * i, 603, 42 + 71 * i, 586)
    for i, (name, rows) in enumerate(
        {
            "token embeddings": config.vocab_size,
            "position embeddings": config.max_position_embeddings,
            "segment embeddings": config.type_vocab_size,
        }.items()
    ):
        drawing.box(10, 560 - 26 * i, 420, 24, strength=24 - 6 * i, colour="residual")
        drawing.text(22, 572 - 26 * i, name, anchor="start")
        drawing.text(418, 572 - 26 * i, f"{rows:,} × {config.hidden_size}", anchor="end", size=12)
    words = f"sum, LayerNorm · {weights['embeddings']:,} weights"
    drawing.text(428, 497, words, size=11, colour="muted", anchor="end")


def _layer(drawing: Drawing, config: BertConfig, weights: dict[str, int]) -> None:
    heads, width, inner = config.num_attention_heads, config.hidden_size, config.intermediate_size
    drawing.box(10, 176, 420, 308, dashed=True, strength=4)
    drawing.text(22, 192, f"one of {config.num_hidden_layers} layers", anchor="start", bold=True)
    drawing.text(418, 192, f"{weights['layer']:,} weights each", anchor="end", size=12, colour="muted")
    for bottom, top, side in ((488, 334, 30), (323, 222, 410)):  # what goes into a box also goes around it
        drawing.arrow(220, bottom, 220, top + 11, colour="residual", width=3)
        turn = bottom - 20 if side < 220 else bottom - 8
        corners = [(220, turn), (side, turn), (side, top), (160 if side < 220 else 280, top)]
        for (x1, y1), (x2, y2) in zip(corners, corners[1:], strict=False):
            drawing.arrow(x1, y1, x2, y2, colour="residual", width=2, head=False)
        drawing.box(160, top - 11, 120, 22, colour="residual")
        drawing.text(220, top, "add, LayerNorm", size=12)
    drawing.plate(50, 356, 340, 86)
    drawing.box(50, 356, 340, 86, strength=8)
    drawing.text(220, 371, f"attention, {heads} heads: every token looks at all", bold=True)
    for i, (part, title) in enumerate({"query": "queries", "key": "keys", "value": "values"}.items()):
        drawing.box(64 + 106 * i, 386, 98, 26, title, colour=part)
    drawing.text(220, 428, f"{weights['attention']:,} weights", size=12, colour="muted")
    drawing.plate(50, 240, 340, 66)
    drawing.box(50, 240, 340, 66, strength=8)
    drawing.text(220, 254, "feed-forward: every token on its own", bold=True)
    drawing.text(220, 273, f"{width} → {inner}, GELU, → {width}", mono=True, size=12)
    drawing.text(220, 293, f"{weights['feed-forward']:,} weights", size=12, colour="muted")


def _heads(drawing: Drawing, config: BertConfig, weights: dict[str, int]) -> None:
    drawing.arrow(220, 211, 220, 164, colour="residual", width=3)
    titles = {
        "masked words": (f"vector of [MASK] →\n{config.vocab_size:,} scores", "pre-trained"),
        "next sentence": ("vector of [CLS] →\n2 scores", "pre-trained"),
        "your labels": ("vector of [CLS] →\nyour classes", "new"),
    }
    for i, (title, (what, colour)) in enumerate(titles.items()):
        drawing.box(10 + 144 * i, 88, 132, 74, colour=colour)
        drawing.text(76 + 144 * i, 104, title, bold=True)
        drawing.text(76 + 144 * i, 136, what, size=12)
    drawing.box(10, 16, 276, 50, f"pre-training\nno labels, {weights['all']:,} weights", colour="pre-trained", size=12)
    drawing.box(298, 16, 132, 50, "fine-tuning,\napplications", colour="new", size=12)
    for x, colour in ((76, "pre-trained"), (220, "pre-trained"), (364, "new")):
        drawing.arrow(x, 88, x, 68, colour=colour)
