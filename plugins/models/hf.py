"""Any Hugging Face image-text-to-text model: prompts, positions, answer ids, generation.

Families with a prompt of their own are subclasses (`llava`, `instructblip`). `collate` pads prompts of different length on the left
where that changes no answer (`pads_left`), for generation too. Where the language model is an encoder-decoder (T5), positions are the
encoder's, and the answer begins at the decoder's start token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from PIL import Image

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import AnswerIds
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import Box, ModelDescription, RoleSpan
from vseam_core.errors import SampleError, UnknownNameError, UnsupportedError, VseamError, did_you_mean
from vseam_core.huggingface.answers import AnswerReader
from vseam_core.huggingface.fingerprints import inputs_key
from vseam_core.huggingface.prompting import (
    PromptTemplate,
    WrittenPrompt,
    adds_special_tokens,
    align,
    assign_roles,
    chat_template,
    classify,
    default_separator,
    unknown_words,
    write_prompt,
)
from vseam_plugins.models.continued import OF_IMAGE, ContinuedPrompts, marked
from vseam_plugins.models.decoder_words import WORDS, question_template, words_in_decoder
from vseam_plugins.models.family_prompts import FAMILY_PROMPTS, QUESTION, FamilyPrompt, own_template
from vseam_plugins.models.generating import CombinedLogits, FirstLogits, batches, first_logits, greedy_settings, needs_image
from vseam_plugins.models.image_regions import ImagePrompt, NoPlacesError, image_places
from vseam_plugins.models.load_options import LoadRequest, parse_device, parse_dtype, refuse_wrong_types
from vseam_plugins.models.loading import Checkpoint, open_checkpoint, quietly
from vseam_plugins.models.padding import PER_POSITION, padded, reason_against_padding
from vseam_plugins.models.pages import PlainTokenizer, page_inputs, reads_pages, with_page
from vseam_plugins.models.token_ids import decoder_start_ids, enters_by_cross_attention, image_token_id, special_tokens, vocabulary_rows

OPTIONS = (
    "device", "dtype", "attention", "revision", "random_seed", "trust_remote_code", "device_map", "max_memory", "offload_folder",
    "quantisation", "local_files_only", "allow_pickle", "ocr", "prompt_template", "answer_separator",
)  # fmt: skip
# Their attention looks both ways over the whole prompt: an appended answer would be seen by the words before it.
_PREFIX_LANGUAGE_MODELS = ("paligemma",)


class HuggingFaceModel(VisionLanguageModel):
    """A vision-language model of the Hugging Face library, loaded from a folder or the hub.

    `model_types` limits the architectures that a family accepts (empty: any). `family_prompt` is the family's own; without
    one the checkpoint's chat template is used, or else `FAMILY_PROMPTS`, or else the image followed by the question.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    family_prompt: ClassVar[FamilyPrompt | None] = None
    module: Any  # a Hugging Face module: more than torch.nn.Module says

    def __init__(self, checkpoint: Checkpoint, template: str | None = None, separator: str | None = None) -> None:
        self.module = checkpoint.module
        self.processor = checkpoint.processor
        self.info = checkpoint.info
        self._reads_pages = reads_pages(checkpoint.processor)
        tokenizer = checkpoint.processor.tokenizer
        self.tokenizer = PlainTokenizer(tokenizer) if self._reads_pages else tokenizer
        self.config = checkpoint.module.config
        self.image_id = image_token_id(self.config)
        self.special_tokens = special_tokens(self.tokenizer)
        self._starts = decoder_start_ids(self.module)
        self._continued = ContinuedPrompts(self.module, self.tokenizer)
        self._in_decoder = words_in_decoder(self.module, self.processor, self._starts)
        self.template = PromptTemplate.parse(template or self._default_template())
        self._words = "input_ids" if self._in_decoder is None else WORDS
        # Whether an answer stands apart from the words of its prompt, not behind them.
        self._answers_apart = self._starts is not None and (self._in_decoder is None or self._in_decoder.are_drawn)
        self._separator = separator

    @classmethod
    def load(
        cls,
        name: str,
        source: str,
        *,
        device: str = "auto",
        dtype: str | torch.dtype | None = None,
        prompt_template: str | None = None,
        answer_separator: str | None = None,
        **options: Any,
    ) -> Self:
        """Load a model under `name` from a checkpoint folder or hub id `source`.

        `dtype` is float32 unless said otherwise, `attention` the library's choice (recorded in `info`). `random_seed` gives the
        same architecture with fresh weights drawn from that seed, named `name@random-SEED`. `prompt_template` is a text with
        `{question}` instead of the family's, `answer_separator` what stands between prompt and answer. The other options are
        those of `LoadRequest`. Raises `VseamError` in one line.
        """
        for option in sorted(set(options) - set(OPTIONS)):
            raise UnknownNameError(f"model {name!r}: unknown option {option!r}; {did_you_mean(option, OPTIONS)}")
        refuse_wrong_types(name, options)
        request = LoadRequest(name, source, parse_device(device), parse_dtype(dtype), **options)
        checkpoint = open_checkpoint(request, cls.model_types)
        return cls(checkpoint, prompt_template, answer_separator)

    @classmethod
    def describe(cls, name: str, source: str, **options: Any) -> ModelDescription:
        """What the files on this machine say about a checkpoint, without loading its weights or asking the network."""
        from vseam_plugins.models.describing import describe_checkpoint

        return describe_checkpoint(cls, name, source, **options)

    def encode(self, image: Image.Image, question: str, roles: Sequence[RoleSpan] = (), answer_prefix: Sequence[int] = ()) -> EncodedPrompt:
        """Image and question in this family's prompt, with every position classified and every named word given its role.

        `inputs` are float32 on the CPU; `collate` moves them. Raises `SampleError` when the image or question cannot be encoded.
        """
        return self._encode(self.template, image, question, roles, answer_prefix)

    def encode_instructed(
        self, image: Image.Image, question: str, instruction: str, roles: Sequence[RoleSpan] = (), answer_prefix: Sequence[int] = ()
    ) -> EncodedPrompt:
        """As `encode`, with an instruction in place of the family's own words around the question."""
        return self._encode(self._frame().around(instruction), image, question, roles, answer_prefix)

    def _encode(
        self, template: PromptTemplate, image: Image.Image, question: str, roles: Sequence[RoleSpan], answer_prefix: Sequence[int]
    ) -> EncodedPrompt:
        self._check_question(question)
        written = write_prompt(self.tokenizer, template, question)
        inputs = self._process(image, written.text)
        if self._starts is None:
            inputs = self._continued.as_generated_from(inputs)
        ids = tuple(inputs[self._words][0].tolist())
        origins = [None] * len(ids) if self._in_decoder is not None and self._in_decoder.are_drawn else align(ids, written)
        if self._starts is not None and self._in_decoder is None:
            # What is generated already stands in the decoder; the positions that methods address are the encoder's.
            inputs["decoder_input_ids"], answer_prefix = torch.tensor([[*self._starts, *answer_prefix]]), ()
        if answer_prefix:
            inputs = self._append(inputs, tuple(answer_prefix))
            ids, origins = (*ids, *answer_prefix), [*origins, *[None] * len(answer_prefix)]
        self._check_ids(ids, inputs)
        front = self._positions_in_front(inputs)
        ids, origins = (*[OF_IMAGE] * front, *marked(ids, inputs)), [*[None] * front, *origins]
        special = frozenset(self.special_tokens.values())
        classes = classify(
            ids, origins, written, image_id=OF_IMAGE if OF_IMAGE in ids else self.image_id, bos_id=self.tokenizer.bos_token_id,
            special_ids=special, appended=len(answer_prefix),
        )  # fmt: skip
        if self._reads_pages:
            ids, origins, classes = with_page(self.config, ids, origins, classes, special)
        boxes, without_places = self._places(inputs, classes.count("image"), image.size)
        return EncodedPrompt(
            inputs=inputs,
            ids=ids,
            tokens=tuple("<image>" if number == OF_IMAGE else self.tokenizer.convert_ids_to_tokens(number) for number in ids),
            classes=classes,
            roles=assign_roles(origins, written, roles),
            text=written.text,
            key=inputs_key(inputs, ids),
            image_boxes=boxes,
            notes=self._notes(written) | ({"no_regions": without_places} if boxes is None else {}),
        )

    def answer_ids(self, prompt: EncodedPrompt, gold: str, competitor: str | None) -> AnswerIds:
        """Where and by which ids the two answers are told apart after `prompt` (as written, without an answer prefix)."""
        return self._reader(prompt).answer_ids(gold, competitor)

    def answer_tokens(self, prompt: EncodedPrompt, answer: str) -> tuple[int, ...]:
        """The ids of the whole answer after `prompt`. Raises `SampleError` for one that the vocabulary cannot write."""
        return self._reader(prompt).tokens(answer)

    def collate(self, prompts: Sequence[EncodedPrompt]) -> dict[str, torch.Tensor]:
        """The forward arguments of prompts as one batch on the model's device, floats in its dtype; the shorter ones padded on the left.

        Every prompt ends at the last position, so `logits[:, -1]` answers for all. The Q-Former's own text is padded on the right
        (its positions are absolute). Raises `ValueError` for prompts that cannot stand in one batch: images of different shape, or
        different lengths where `pads_left` is False.
        """
        if not prompts:
            raise ValueError("no prompts to collate")
        lengths = {len(prompt) for prompt in prompts}
        if len(lengths) > 1 and (reason := self._reason_against_padding()):
            raise ValueError(f"prompts of different length in one batch: {sorted(lengths)}; not padded, because {reason}")
        names = max((list(prompt.inputs) for prompt in prompts), key=len)
        for prompt in prompts:
            if list(prompt.inputs) != names and not (self.reads_without_image and "image" not in prompt.classes):
                raise ValueError("prompts with different inputs in one batch")
        batch = {}
        for name in names:
            given = [prompt.inputs[name] for prompt in prompts if name in prompt.inputs]
            tensors = padded(name, given, self._pad_id(), self._qformer_pad_id())
            if len({tensor.shape[1:] for tensor in tensors}) > 1:
                raise ValueError(f"prompts with {name} of different shapes in one batch")
            stacked = torch.cat(tensors).to(self.device)
            batch[name] = stacked.to(self.module.dtype) if stacked.is_floating_point() else stacked
        return batch

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """What the tokenizer writes for each id by itself, without space around it."""
        return ["" if number == OF_IMAGE else str(self.tokenizer.decode([number])).strip() for number in ids]

    @property
    def device(self) -> torch.device:
        """Where inputs go: the model's device, or that of the first layers where accelerate spreads it."""
        hook = getattr(self.module, "_hf_hook", None)
        place = getattr(hook, "execution_device", None)
        return self.module.device if place is None else torch.device(place)

    @property
    def pads_left(self) -> bool:
        """Whether `collate` takes prompts of different length: pads in front change no answer of this model."""
        return self._reason_against_padding() is None

    def generate(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int = 8) -> list[str]:
        """The greedy answers as text, in order; prompts that fit together run as one batch.

        Sampling, penalties and limits that a checkpoint's `generation_config.json` asks for are not applied: the answer is the
        argmax of the logits at every step, until the end-of-text token.
        """
        return self._generate(prompts, max_new_tokens)[0]

    def respond(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int = 8) -> tuple[list[str], torch.Tensor]:
        """The greedy answers, and the logits of their first tokens as the generation itself read them, float32."""
        texts, first = self._generate(prompts, max_new_tokens)
        return texts, torch.stack(first) if first else torch.zeros(0, 0)

    def _generate(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int) -> tuple[list[str], list[torch.Tensor]]:
        answers = [""] * len(prompts)
        first: list[torch.Tensor] = [torch.empty(0)] * len(prompts)
        for members in batches(prompts, self.pads_left).values():
            texts, logits = self._generate_batch([prompts[index] for index in members], FirstLogits(), max_new_tokens)
            for row, (index, text) in enumerate(zip(members, texts, strict=True)):
                answers[index] = text
                first[index] = logits[row]
        return answers, first

    def _generate_batch(self, prompts: Sequence[EncodedPrompt], logits: FirstLogits, max_new_tokens: int) -> tuple[list[str], torch.Tensor]:
        """The greedy answers of one batch, and the logits `[batch, vocabulary]` of the first step, as `logits` gave them back."""
        batch = self.collate(prompts)
        with torch.no_grad(), greedy_settings(self.module, self.tokenizer, self._starts, max_new_tokens):
            output = self.module.generate(**self._continued.for_generation(batch), logits_processor=[logits])
        given = batch[self._words]
        width = given.shape[1]
        # Some families return the prompt before the answer, some the answer alone.
        repeats = output.shape[1] >= width and torch.equal(output[:, :width], given)
        texts = self.tokenizer.batch_decode(output[:, width:] if repeats else output, skip_special_tokens=True)
        return [text.strip() for text in texts], first_logits(self.module, batch, logits)

    @property
    def reads_without_image(self) -> bool:
        """Where image positions stand in the language model's own sequence, put there by nothing that needs an image."""
        return self.image_id is not None and self._starts is None and not needs_image(self.module)

    def respond_together(
        self, rows: Sequence[EncodedPrompt], combine: Callable[[torch.Tensor, int], torch.Tensor], max_new_tokens: int = 8
    ) -> tuple[list[str], torch.Tensor]:
        """The greedy answers of one batch whose logits go through `combine` at every step."""
        return self._generate_batch(rows, CombinedLogits(combine), max_new_tokens)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors, in the precision they are loaded in) and processor, to be loaded like any checkpoint.

        Where the model is asked in another prompt than the folder would be, the folder gets this one as its chat template.
        """
        original = getattr(self.processor, "chat_template", None)
        if not self._is_asked_as_its_folder():
            self.processor.chat_template = self.template.as_chat_template()
        try:
            with quietly(True):
                self.module.save_pretrained(folder)
                self.processor.save_pretrained(folder)
        finally:
            self.processor.chat_template = original

    def _is_asked_as_its_folder(self) -> bool:
        """Whether the checkpoint, named by its folder, would be asked in the prompt in use."""
        try:
            return PromptTemplate.parse(self._own_template()) == self.template
        except VseamError:
            return False

    def _reader(self, prompt: EncodedPrompt) -> AnswerReader:
        # A decoder of its own begins with the answer; otherwise the answer continues the prompt.
        text = "" if self._answers_apart else prompt.text
        return AnswerReader(self.tokenizer, text, self._separator_after(text), frozenset(self.special_tokens.values()))

    def _separator_after(self, text: str) -> str:
        """What stands between a prompt and its answer."""
        if self._separator is not None:
            return self._separator
        return "" if self._answers_apart else default_separator(text, self.special_tokens)

    def _frame(self) -> PromptTemplate:
        """What stands around a question whatever the benchmark asks: the template without a family's own instruction."""
        known = [prompt for prompt in (self.family_prompt, *FAMILY_PROMPTS.values()) if prompt is not None]
        frames = (prompt.frame for prompt in known if PromptTemplate.parse(prompt.template) == self.template)
        return PromptTemplate.parse(next(frames, self.template.fill(QUESTION)))

    def _default_template(self) -> str:
        return self._own_template() if self.family_prompt is None else self.family_prompt.template

    def _own_template(self) -> str:
        if self._in_decoder is not None and chat_template(self.processor) is None:
            return question_template(self.tokenizer)
        return own_template(self.config, self.processor, self.image_id)

    def _check_question(self, question: str) -> None:
        if not question.strip():
            raise SampleError("the question is empty")
        found = next((token for token in self.special_tokens if token in question), None)
        if found is not None:
            raise SampleError(f"the question contains the control token {found!r}")

    def _process(self, image: Image.Image, text: str) -> dict[str, torch.Tensor]:
        """Run the processor on one image and one text, unpadded."""
        if min(image.size) < 1:
            raise SampleError(f"the image is empty ({image.size[0]} × {image.size[1]} pixels)")
        special = {} if adds_special_tokens(self.tokenizer, text) else {"add_special_tokens": False}
        try:
            if self._in_decoder is not None:
                return self._in_decoder.inputs(image.convert("RGB"), text)
            if self._reads_pages:
                return page_inputs(self.processor, image.convert("RGB"), text)
            encoded = self.processor(images=[image.convert("RGB")], text=[text], return_tensors="pt", padding=False, **special)
        except Exception as error:  # processors raise anything for an image or a text they cannot take
            raise SampleError(f"the processor refuses the sample: {type(error).__name__}: {error}") from error
        inputs = {name: value for name, value in encoded.items() if isinstance(value, torch.Tensor) and name != "labels"}
        if not bool(inputs["attention_mask"].all()):
            raise UnsupportedError(f"model {self.info.name!r}: its processor pads a single prompt; padding is not supported")
        return inputs

    def _append(self, inputs: Mapping[str, torch.Tensor], prefix: tuple[int, ...]) -> dict[str, torch.Tensor]:
        """Lengthen a prompt by teacher-forced answer tokens."""
        if self.info.family in _PREFIX_LANGUAGE_MODELS:
            raise UnsupportedError(f"{self.info.family} reads its whole prompt both ways: no place for a shared answer prefix")
        extended = dict(inputs)
        extended[self._words] = torch.cat([inputs[self._words], torch.tensor([prefix])], dim=1)
        if self._in_decoder is not None:
            return extended
        # Longer by the answer prefix, these repeat their last entry.
        for name in PER_POSITION:
            if name in inputs:
                last = inputs[name][:, -1:]
                extended[name] = torch.cat([inputs[name], *[last] * len(prefix)], dim=1)
        return extended

    def _check_ids(self, ids: Sequence[int], inputs: Mapping[str, torch.Tensor]) -> None:
        """Refuse what would fail inside the model: too long for its positions, or ids beyond its vocabulary."""
        rows = vocabulary_rows(self.module)
        if max(ids) >= rows:
            raise UnsupportedError(f"model {self.info.name!r}: its tokenizer writes id {max(ids)}, but it knows {rows} tokens")
        limits = [("prompt", len(ids), self.config.get_text_config(decoder=True))]
        if "qformer_input_ids" in inputs:
            limits.append(("Q-Former text", inputs["qformer_input_ids"].shape[1], self.config.qformer_config))
        for what, length, config in limits:
            limit = getattr(config, "max_position_embeddings", None)
            if limit is not None and length > limit:
                raise SampleError(f"the {what} has {length} tokens, the model reads at most {limit}")

    def _positions_in_front(self, inputs: Mapping[str, torch.Tensor]) -> int:
        """How many positions of the image the model itself puts in front of the words (GIT); elsewhere they stand among the ids."""
        if self.image_id is not None or self._starts is not None or enters_by_cross_attention(self.config):
            return 0
        return self._continued.positions_in_front(inputs)

    def _places(self, inputs: Mapping[str, Any], count: int, image: tuple[int, int]) -> tuple[tuple[Box, ...] | None, str]:
        """Where image positions lie in the image, or None and the reason why that is not known."""
        try:
            return image_places(ImagePrompt(self.config, self.processor.image_processor, inputs, count, image)), ""
        except NoPlacesError as error:
            return None, str(error)

    def _notes(self, written: WrittenPrompt) -> dict[str, str]:
        unknown = unknown_words(self.tokenizer, written)
        return {"unknown_words": ", ".join(unknown)} if unknown else {}

    def _reason_against_padding(self) -> str | None:
        if self._in_decoder is not None:
            return "its words stand in the decoder"
        return reason_against_padding(self.config, self.module.dtype, self.info.attention)

    def _pad_id(self) -> int:
        return self.tokenizer.pad_token_id or 0

    def _qformer_pad_id(self) -> int:
        return getattr(getattr(self.processor, "qformer_tokenizer", None), "pad_token_id", None) or 0


load = HuggingFaceModel.load
describe = HuggingFaceModel.describe
