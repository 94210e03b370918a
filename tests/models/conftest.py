"""Very small models, made here by transformers: nothing is fetched from a hub."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest

WORDS = ("good", "bad", "user", "assistant", "answer", "the", "a", "is", "of", "question", ":")
TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run this folder's coroutine tests in an event loop of their own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def _tokenizer(*, template: str | None) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[user]", "[assistant]", *WORDS]
    numbers = {word: number for number, word in enumerate(vocabulary)}
    raw = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]"
    )
    tokenizer.chat_template = template
    return tokenizer


def _make(folder: Path, labels: list[str], *, template: str | None) -> Path:
    """Save a classifier whose first logit is the share of `good` minus the share of `bad`.

    The weights are set, not learned: every token's embedding holds its worth, the model's layers
    are off, and the head reads it off. Class n has the logit times (1 - n).
    """
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = _tokenizer(template=template)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(config)
    size = config.hidden_size
    worth = {"good": 1.0, "bad": -1.0}
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        embedding.zero_()
        embedding[:, 2] = 1.0  # so that no vector is zero before the norm
        for word, value in worth.items():
            embedding[tokenizer.convert_tokens_to_ids(word), 0] = value
        layer = model.model.layers[0]
        attention = layer.self_attn
        attention.q_proj.weight.zero_()  # attends to all that came before alike
        attention.k_proj.weight.zero_()
        attention.v_proj.weight.copy_(torch.eye(size))
        attention.o_proj.weight.copy_(torch.eye(size))
        layer.mlp.down_proj.weight.zero_()
        model.score.weight.zero_()
        for number in range(len(labels)):
            model.score.weight[number, 0] = 4.0 * (1 - number)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model with a chat template: one logit, higher for more `good` than `bad`."""
    return _make(tmp_path_factory.mktemp("reward"), ["REWARD"], template=TEMPLATE)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three classes without a chat template."""
    return _make(tmp_path_factory.mktemp("classifier"), ["fine", "so-so", "poor"], template=None)
