"""The model itself: loaded by transformers from a folder, run by torch. Imported only when used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from gateway.errors import SettingsError
from gateway.settings_local import LocalModelSettings


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation, an answer as its last message, written with the model's chat template.

    A model without a template reads it as a pair: the conversation so far, and the answer.
    """

    messages: tuple[Mapping[str, str], ...]


Item = str | tuple[str, str] | Chat
"""What is scored: a text, a pair of texts, or a conversation."""


def check_installed(settings: LocalModelSettings, *, field: str) -> None:
    """Raise `SettingsError` where the extra is not installed, or the folder holds no model.

    Looks only; nothing is imported and nothing loaded.
    """
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"a local model needs {' and '.join(missing)}; pip install 'coalmine[models]'",
            field=field,
        )
    path = settings.path
    if not path.is_dir():
        raise SettingsError(f"there is no folder {path}", field=f"{field}.path")
    if not (path / "config.json").is_file():
        raise SettingsError(
            f"{path} holds no model; it needs config.json, a tokenizer and *.safetensors",
            field=f"{field}.path",
        )
    if not any(path.glob("*.safetensors")):
        raise SettingsError(
            f"{path} holds no weights as *.safetensors; other formats can run code and are "
            "refused, save the model with save_pretrained",
            field=f"{field}.path",
        )


class Backend:
    """A loaded model. Slow and blocking: built and called in a thread. `labels` by class number.

    Raises `SettingsError` where the folder can't be loaded as a sequence classifier.
    """

    def __init__(self, settings: LocalModelSettings, *, field: str) -> None:
        check_installed(settings, field=field)
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self._torch = torch
        self._max_tokens = settings.max_tokens
        self._device = self._choose_device(settings.device, field)
        dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        place = str(settings.path)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                place, local_files_only=True, trust_remote_code=False
            )
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                place,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=dtype,
            )
        except Exception as error:  # noqa: BLE001 - transformers raises many kinds
            said = str(error).strip().splitlines()
            raise SettingsError(
                f"{place} can't be loaded as a sequence classifier: "
                f"{said[0][:200] if said else type(error).__name__}",
                field=f"{field}.path",
            ) from None
        self._single = not self._find_padding(model)
        self._model = model.to(self._device).eval()
        names = model.config.id2label
        self.labels = tuple(str(names[number]) for number in range(model.config.num_labels))

    def score(self, items: Sequence[Item]) -> list[tuple[float, ...] | None]:
        """Return the logits of each item, None for one that is too long."""
        encoded = [self._encode(item) for item in items]
        results: list[tuple[float, ...] | None] = [None] * len(items)
        limit = self._max_tokens
        fitting = [n for n, each in enumerate(encoded) if len(each["input_ids"]) <= limit]
        groups = [[place] for place in fitting] if self._single else [fitting]
        for group in groups:
            if group:
                logits = self._forward([encoded[place] for place in group])
                for place, row in zip(group, logits, strict=True):
                    results[place] = tuple(row)
        return results

    def _forward(self, encoded: list[Any]) -> list[list[float]]:
        batch = self._tokenizer.pad(encoded, return_tensors="pt", padding=not self._single)
        with self._torch.inference_mode():
            logits = self._model(**batch.to(self._device)).logits
        rows: list[list[float]] = logits.float().cpu().tolist()
        return rows

    def _encode(self, item: Item) -> Any:
        if isinstance(item, Chat):
            if getattr(self._tokenizer, "chat_template", None):
                text = self._tokenizer.apply_chat_template(
                    [dict(message) for message in item.messages], tokenize=False
                )
                # The template writes the special tokens itself.
                return self._tokenizer(text, add_special_tokens=False, truncation=False)
            *before, last = item.messages
            item = ("\n".join(f"{m['role']}: {m['content']}" for m in before), last["content"])
        if isinstance(item, tuple):
            return self._tokenizer(item[0], item[1], truncation=False)
        return self._tokenizer(item, truncation=False)

    def _find_padding(self, model: Any) -> bool:
        """Let texts of several lengths share a batch; False where the model knows no padding."""
        tokenizer = self._tokenizer
        if tokenizer.pad_token_id is None:
            if tokenizer.eos_token_id is None:
                return False
            tokenizer.pad_token = tokenizer.eos_token
        config = model.config
        if getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = tokenizer.pad_token_id
        return True

    def _choose_device(self, wanted: str, field: str) -> str:
        there = self._torch.cuda.is_available()
        if wanted == "auto":
            return "cuda" if there else "cpu"
        if wanted != "cpu" and not there:
            raise SettingsError(
                f"torch sees no GPU for {wanted!r}; write cpu or auto", field=f"{field}.device"
            )
        return wanted
