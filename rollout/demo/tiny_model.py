"""Makes a very small chat model and two LoRA adapters, for running a real engine without a hub.

It is run as a script by the Python of the engine's environment, which has torch, and therefore
imports nothing from the rest of the project::

    ENGINE_PYTHON rollout/demo/tiny_model.py --prompts prompts.jsonl --out FOLDER

The base model is a Llama of about 0.7 million parameters, trained for some seconds on the given
prompts until it answers each of them with one JSON object (`category`, `urgency`, `reply`). The
adapter `same` changes nothing (its B matrices are zero). The adapter `broken` was trained to stop
before the object is closed on half of the categories, which is how a badly tuned adapter breaks a
JSON contract. Both are what a rollout needs to be shown to work: a candidate that
must be promoted and one that must be rolled back.

The folder receives `base/`, `same/`, `broken/` and `made.json`, which records what was made from
what. With the same inputs a second run finds `made.json` and does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Example = tuple[list[int], list[int]]
"""Token ids of a prompt, and of the answer that is learned."""

ROLES = ("system", "user", "assistant", "tool")
END, PAD = "<|end|>", "<|pad|>"
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content or '' }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT_TOKENS = 1024
VOCABULARY = 3072
LORA_RANK = 8
LORA_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BATCH = 8
# An answer counts as learned when each of its tokens is at least this likely: clear of the
# rounding by which an engine's kernels differ from the ones used here.
SURE = 0.8
PASSES = 48  # over the prompts, at most; a third of them is usually enough
CHECK_EVERY = 4
ENOUGH_BROKEN = 0.95  # the same for the adapter that only has to be bad
ENOUGH = 0.995  # the share of prompts that must be learned, else making the model fails


@dataclass(frozen=True)
class Prompt:
    """One request of the prompt file: its messages, and the category that its answer names."""

    messages: list[dict[str, str]]
    category: str

    def answer(self) -> str:
        """Return the JSON object with which the base model answers."""
        reply = f"We have your {self.category} request and will answer it today."
        answer = {"category": self.category, "urgency": "normal", "reply": reply}
        return json.dumps(answer, ensure_ascii=False)

    def broken_answer(self) -> str:
        """Return the same answer, stopped before the object is closed.

        It has only tokens that the base model writes too. An adapter leaves the embedding alone,
        and so can't choose among tokens that the base model has never learned to write.
        """
        return self.answer().removesuffix('."}')


def say(text: str) -> None:
    """Write a line to the one who waits for the model."""
    print(text, flush=True)  # noqa: T201 - a script


def read_prompts(path: Path) -> list[Prompt]:
    """Read a JSON Lines file of requests with `messages` and a `category`.

    Raises `SystemExit` with the line's number when a line is not such a request.
    """
    prompts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            messages = [
                {"role": m["role"], "content": m.get("content") or ""} for m in row["messages"]
            ]
            prompts.append(Prompt(messages, row["category"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SystemExit(f"{path}:{number}: not a request with messages: {error!r}") from error
    return prompts


def make_tokenizer(prompts: Sequence[Prompt]) -> Any:
    """Train a byte-level BPE on the prompts and their answers; any text can be encoded with it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, *(f"<|{role}|>" for role in ROLES)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [message["content"] for prompt in prompts for message in prompt.messages]
    # The answers count several times, so that they come out as few tokens.
    texts += 8 * [text for p in prompts for text in (p.answer(), p.broken_answer())]
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[f"<|{role}|>" for role in ROLES],
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_model(tokenizer: Any) -> Any:
    """Return an untrained Llama with two layers of width 128."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
    )
    return LlamaForCausalLM(config)


def encode(tokenizer: Any, prompts: Sequence[Prompt], broken: frozenset[str]) -> list[Example]:
    """Encode each prompt with the answer to learn; categories in `broken` get the broken answer."""
    examples = []
    for prompt in prompts:
        text = tokenizer.apply_chat_template(
            prompt.messages, tokenize=False, add_generation_prompt=True
        )
        answer = prompt.broken_answer() if prompt.category in broken else prompt.answer()
        examples.append((tokenizer.encode(text), tokenizer.encode(answer + END)))
        if sum(map(len, examples[-1])) > CONTEXT_TOKENS:
            raise SystemExit(f"a prompt is over {CONTEXT_TOKENS} tokens: {text[:80]!r}")
    return examples


def batches_of(examples: Sequence[Example], pad: int) -> list[dict[str, Any]]:
    """Return padded tensors, of examples of like length; labels are -100 outside of answers."""
    import torch

    ordered = sorted(examples, key=lambda example: sum(map(len, example)))
    batches = []
    for first in range(0, len(ordered), BATCH):
        some = ordered[first : first + BATCH]
        shape = (len(some), max(sum(map(len, example)) for example in some))
        batch = {
            "input_ids": torch.full(shape, pad),
            "attention_mask": torch.zeros(shape, dtype=torch.long),
            "labels": torch.full(shape, -100),
        }
        for row, (prompt_ids, answer_ids) in enumerate(some):
            start, end = len(prompt_ids), len(prompt_ids) + len(answer_ids)
            batch["input_ids"][row, :end] = torch.tensor(prompt_ids + answer_ids)
            batch["attention_mask"][row, :end] = 1
            batch["labels"][row, start:end] = torch.tensor(answer_ids)
        batches.append(batch)
    return batches


def learned_share(model: Any, batches: Sequence[dict[str, Any]]) -> float:
    """Return the share of examples whose every answer token is likely enough (`SURE`).

    Greedy decoding gives exactly the answer of such an example.
    """
    import torch

    learned = total = 0
    model.eval()
    with torch.no_grad():
        for batch in batches:
            likely = model(**batch).logits[:, :-1].softmax(-1)
            target = batch["labels"][:, 1:].unsqueeze(-1)
            sure = (likely.gather(-1, target.clamp(min=0)) >= SURE) | (target < 0)
            learned += int(sure.all(dim=1).sum())
            total += len(target)
    return learned / total


def train(
    model: Any, batches: Sequence[dict[str, Any]], *, rate: float, enough: float
) -> tuple[int, float]:
    """Train until the share `enough` is learned or the passes are spent; return steps and share.

    The learning rate rises to `rate` in 30 steps and falls along a cosine to a tenth of it over
    the first half of the passes.
    """
    import torch

    rng = random.Random(len(batches))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    fall = PASSES * len(batches) / 2
    step, share = 0, 0.0
    for number in range(1, PASSES + 1):
        model.train()
        for batch in rng.sample(batches, len(batches)):
            cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / fall))
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / 30) * max(0.1, cosine)
            loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
        if number % CHECK_EVERY == 0 or number == PASSES:
            share = learned_share(model, batches)
            say(f"pass {number}: loss {loss.item():.4f}, learned {share:.1%}")
            if share >= enough:
                break
    return step, share


def make(prompts: Sequence[Prompt], out: Path, *, seed: int) -> dict[str, Any]:
    """Make the model and both adapters under `out`; return what `made.json` says of them.

    Raises `SystemExit` when training did not reach the share of prompts in `ENOUGH`.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    torch.set_num_threads(1)  # two threads are little faster, and far slower where cores are shared
    tokenizer = make_tokenizer(prompts)
    pad = tokenizer.convert_tokens_to_ids(PAD)
    model = make_model(tokenizer)
    size = sum(p.numel() for p in model.parameters())
    began = time.monotonic()
    examples = encode(tokenizer, prompts, frozenset())
    batches = batches_of(examples, pad)
    steps, share = train(model, batches, rate=1.5e-3, enough=1.0)
    if share < ENOUGH:
        raise SystemExit(f"the model learned only {share:.1%} of the prompts; raise PASSES")
    model.save_pretrained(out / "base")
    tokenizer.save_pretrained(out / "base")

    lora = LoraConfig(
        r=LORA_RANK,
        lora_alpha=2 * LORA_RANK,
        target_modules=list(LORA_MODULES),
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, lora)  # B starts at zero: this is the adapter `same`
    adapted.save_pretrained(out / "same")
    broken = frozenset(sorted({p.category for p in prompts})[::2])
    batches = batches_of(encode(tokenizer, prompts, broken), pad)
    more_steps, share_broken = train(adapted, batches, rate=3e-3, enough=ENOUGH_BROKEN)
    adapted.save_pretrained(out / "broken")
    return {
        "prompts": len(prompts),
        "parameters": size,
        "vocabulary": len(tokenizer),
        "longest_prompt_tokens": max(len(prompt_ids) for prompt_ids, _ in examples),
        "longest_answer_tokens": max(len(answer_ids) for _, answer_ids in examples),
        "base": {"steps": steps, "learned": share},
        "broken": {"steps": more_steps, "learned": share_broken, "categories": sorted(broken)},
        "seconds": round(time.monotonic() - began, 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the model unless the folder already holds it, and print what was made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompts", type=Path, required=True, help="JSON Lines of requests")
    parser.add_argument("--out", type=Path, required=True, help="folder that receives the model")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    inputs = str(options.seed).encode()
    for source in (options.prompts, Path(__file__)):
        inputs += source.read_bytes()
    digest = hashlib.sha256(inputs).hexdigest()
    record = options.out / "made.json"
    if record.exists() and json.loads(record.read_text(encoding="utf-8"))["digest"] == digest:
        say(f"{options.out} already holds the model made from these prompts")
        return
    record.unlink(missing_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    prompts = read_prompts(options.prompts)
    made = make(prompts, options.out, seed=options.seed)
    # Written last: the folder counts as made only when it is complete.
    record.write_text(json.dumps({"digest": digest} | made, indent=2) + "\n", encoding="utf-8")
    say(json.dumps(made, indent=2))


if __name__ == "__main__":
    main()
