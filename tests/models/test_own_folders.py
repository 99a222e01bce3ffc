"""Folders of encoder-decoders and of Kosmos, with tokenizer, processor and settings of the library's own classes, against the library.

What the library's `generate` makes of its processor's own output is what vseam scores and answers.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import matplotlib
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, BlipForQuestionAnswering
from transformers.models.layoutlmv3 import image_processing_pil_layoutlmv3 as layoutlmv3

from tests.models.builders import picture
from tests.models.checkpoints import build_checkpoint
from vseam_core.api.interventions import AnswerIds, AnswerScore, LensScore, Patch, Run, Site, SiteEdit, Zero
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.precision import drift
from vseam_core.engine.selfcheck import checked_engine
from vseam_core.errors import InvalidFileError, UnsupportedError
from vseam_plugins.models import hf, pages
from vseam_plugins.models.hf import HuggingFaceModel

QUESTION = "Is the dog red ?"
PAGE = (["the", "red"], [[100, 100, 300, 200], [350, 100, 500, 200]])
SMALL = ("florence2", "blip_questions", "udop", "trocr", "donut", "kosmos-2")
_TORCHVISION = importlib.util.find_spec("torchvision") is not None
_NEEDS_TORCHVISION = pytest.mark.skipif(not _TORCHVISION, reason="its processor needs torchvision: make test-torchvision")
ALL = (*SMALL, pytest.param("kosmos-2.5", marks=pytest.mark.slow), pytest.param("pp_formulanet", marks=_NEEDS_TORCHVISION))
# Where words stand in the decoder, behind what it begins with.
STARTS = {"trocr": (2,), "donut": (), "pp_formulanet": (2,)}
# Where an answer is not behind the words of its question.
ENCODERS = ("florence2", "blip_questions", "udop")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root, made = tmp_path_factory.mktemp("own"), dict[str, Path]()

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = build_checkpoint(family, root / family)
        return made[family]

    return folder


def load(folder: Path, **options: Any) -> HuggingFaceModel:
    return hf.load("own", str(folder), device="cpu", **options)


def of_library(folder: Path, family: str) -> Any:
    kind: Any = BlipForQuestionAnswering if family == "blip_questions" else AutoModelForImageTextToText
    return kind.from_pretrained(folder, dtype=torch.float32).eval()


def generated(module: Any, family: str, processor: Any, image: Image.Image, question: str, tokens: int) -> list[int]:
    """What the library's `generate` writes, greedily, behind whatever it begins an answer with, for its own processor's output."""
    special: dict[str, Any] = {"text_pair": [[]], "boxes": [[]]} if family == "udop" and not processor.image_processor.apply_ocr else {}
    if family in STARTS:
        words = f"<s_docvqa><s_question>{question}</s_question><s_answer>" if family == "donut" else question
        ids = [*STARTS[family], *processor.tokenizer(words, add_special_tokens=False)["input_ids"]]
        given = {"pixel_values": processor(images=[image], return_tensors="pt")["pixel_values"], "decoder_input_ids": torch.tensor([ids])}
    else:
        given = dict(processor(images=[image], text=[question], return_tensors="pt", **special))
    begin = 0 if family == "blip_questions" else len(given.get("decoder_input_ids", given.get("input_ids"))[0])
    if family in ENCODERS:
        begin = {"florence2": 2, "blip_questions": 1, "udop": 1}[family]
    plain = {"num_beams": 1, "no_repeat_ngram_size": 0} if family == "florence2" else {}
    # The last token that is allowed may be forced to end the text.
    output = module.generate(**given, max_new_tokens=tokens + 1 + (family == "florence2"), do_sample=False, **plain)
    return list(map(int, output[0, begin:][:tokens]))


@pytest.mark.parametrize("family", ALL)
def test_an_answer_is_what_the_library_generates_from_its_processors_output(family: str, folders: Callable[[str], Path]) -> None:
    model, module = load(folders(family)), of_library(folders(family), family)
    for seed in range(2):
        image = picture(seed, (64, 48))
        wanted = generated(module, family, model.processor, image, QUESTION, 3)
        prompt = model.encode(image, QUESTION)
        texts, first = model.respond([prompt], 3)
        assert int(first[0].argmax()) == wanted[0]
        assert texts == [model.tokenizer.decode(wanted, skip_special_tokens=True).strip()]
        with torch.no_grad():
            scored = model.module(**model.collate([prompt]), use_cache=False).logits[0, -1]
        assert first[0] == pytest.approx(scored, abs=1e-4)


@pytest.mark.parametrize("family", SMALL)
def test_a_folder_whose_image_processor_has_a_file_of_its_own_is_the_same_model(
    family: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """As folders were written before one file held all of a processor: most that are published still are."""
    older = shutil.copytree(folders(family), tmp_path / family)
    file = older / "processor_config.json"
    settings = json.loads(file.read_text())
    images = settings.pop("image_processor")
    kind = images["image_processor_type"].removesuffix("Pil")
    (older / "preprocessor_config.json").write_text(
        json.dumps({**images, "image_processor_type": kind, "processor_class": settings["processor_class"]})
    )
    file.write_text(json.dumps(settings))
    first, second = load(folders(family)), load(older)
    assert second.info.processor_hash == first.info.processor_hash
    assert second.encode(picture(1), QUESTION).key == first.encode(picture(1), QUESTION).key


@pytest.mark.parametrize("family", ALL)
def test_every_word_of_the_question_and_every_position_of_the_image_is_found(family: str, folders: Callable[[str], Path]) -> None:
    model = load(folders(family))
    prompt = model.encode(picture(1, (64, 48)), QUESTION)
    question = [token for token, kind in zip(prompt.tokens, prompt.classes, strict=True) if kind in ("question", "last")]
    written = "".join(question).replace("▁", "").replace("Ġ", "").lower()
    assert "isthedogred" in written
    images = {"florence2": 17, "udop": 16, "kosmos-2": 64, "kosmos-2.5": 4}
    assert len(prompt.positions("image")) == images.get(family, 0)
    engine, record = checked_engine(model)
    said = {one["name"]: one for one in record["capabilities"]}
    assert said["traces"]["holds"], said["traces"]
    assert said["heads"]["holds"], said["heads"]
    described = hf.describe("own", model.info.source)
    assert (described.problem, described.image_positions) == ("", images.get(family, 0))
    assert described.positions == len(model.encode(Image.new("RGB", (640, 480)), "Is the dog red?"))
    assert engine.decoder.shape.stack == ("encoder" if family in ENCODERS else "decoder")


def test_an_answer_of_bart_is_read_behind_the_token_that_its_settings_force(folders: Callable[[str], Path]) -> None:
    for options in ({}, {"random_seed": 3}):
        model = load(folders("florence2"), **options)
        prompt = model.encode(picture(1), QUESTION, (), (9,))
        assert prompt.inputs["decoder_input_ids"].tolist() == [[2, 1, 9]]


def test_places_of_florence_2_are_a_grid_behind_its_mean(folders: Callable[[str], Path]) -> None:
    prompt = load(folders("florence2")).encode(picture(1, (64, 48)), QUESTION)
    assert prompt.image_boxes is not None
    assert prompt.image_boxes[:3] == ((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.25, 0.25), (0.25, 0.0, 0.5, 0.25))
    assert prompt.image_boxes[-1] == (0.75, 0.75, 1.0, 1.0)


def test_blips_sites_for_questions_are_those_of_plain_hooks_on_the_librarys_class(folders: Callable[[str], Path]) -> None:
    model, module = load(folders("blip_questions")), of_library(folders("blip_questions"), "blip_questions")
    engine, _ = checked_engine(model)
    base, donor = (model.encode(picture(seed), QUESTION) for seed in (1, 2))
    readout = (AnswerScore(model.answer_ids(base, "yes", "no")),)
    yes, no = (model.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))

    def plain(prompt: Any, path: str, change: Callable[[torch.Tensor], torch.Tensor]) -> float:
        found: list[Any] = []

        def changed(_: Any, args: Any, output: Any) -> Any:
            value = output[0] if isinstance(output, tuple) else output
            return (change(value), *output[1:]) if isinstance(output, tuple) else change(value)

        handles = [
            module.text_encoder.encoder.layer.get_submodule(path).register_forward_hook(changed),
            module.text_decoder.register_forward_hook(lambda _, args, output: found.append(output.logits[0, -1])),
        ]
        with torch.no_grad():
            module(**model.collate([prompt]))
        for handle in handles:
            handle.remove()
        return float(found[0][yes] - found[0][no])

    kinds = {
        "residual_after": "",
        "attention_output": "attention.output.dense",
        "mlp_output": "output.dense",
        "query": "attention.self.query",
    }
    effects = []
    for layer in range(2):
        for kind, path in kinds.items():
            place = f"{layer}.{path}".rstrip(".")
            held: list[torch.Tensor] = []
            plain(donor, place, lambda value, held=held: held.append(value.clone()) or value)  # type: ignore[misc]
            for operation, rows in ((Patch(), [1, 3]), (Zero(), [2])):

                def change(
                    value: torch.Tensor, held: Any = held, rows: Any = rows, zero: bool = isinstance(operation, Zero)
                ) -> torch.Tensor:
                    return value.index_copy(1, torch.tensor(rows), torch.zeros_like(value[:, rows]) if zero else held[0][:, rows])

                edit = SiteEdit(Site(layer, kind, None, "encoder"), operation, tuple(rows))  # type: ignore[arg-type]
                untouched, found = engine.run([Run(base, readout), Run(base, readout, (edit,), donor)])
                assert found.answer.logit_diff == pytest.approx(plain(base, place, change), abs=1e-4)
                effects.append(abs(found.answer.logit_diff - untouched.answer.logit_diff))
    assert sum(effect > 1e-4 for effect in effects) > len(effects) / 2


def test_blips_decoder_for_questions_is_scanned_and_read_as_plain_hooks_do(folders: Callable[[str], Path]) -> None:
    """The stack `decoder` is what writes the answer; `cross` the attention of the question to the image, not that of the answer."""
    model = load(folders("blip_questions"))
    engine, _ = checked_engine(model)
    decoder = model.module.text_decoder
    prompt = model.encode(picture(0), QUESTION)
    places = {("decoder", "head_output"): decoder.bert.encoder.layer[1].attention.output.dense,
              ("decoder", "cross_head_output"): decoder.bert.encoder.layer[1].crossattention.output.dense,
              ("cross", "head_output"): model.module.text_encoder.encoder.layer[1].crossattention.output.dense}  # fmt: skip
    tokens = (4, 7, 9)
    readouts = tuple(AnswerScore(AnswerIds((token,), (5,), (token,))) for token in tokens)
    untouched = _logits(model, prompt)[list(tokens)]
    for (stack, kind), module in places.items():

        def without(_: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
            size = args[0].shape[-1] // 4
            return (torch.cat([args[0][..., :size], torch.zeros_like(args[0][..., :size]), args[0][..., 2 * size :]], -1),)

        handle = module.register_forward_pre_hook(without)
        wanted = _logits(model, prompt)[list(tokens)]
        handle.remove()
        found = engine.run([Run(prompt, readouts, (SiteEdit(Site(1, kind, 1, stack), Zero()),))])[0]  # type: ignore[arg-type]
        assert [read[0].logit for read in found.readouts] == pytest.approx(wanted.tolist(), abs=1e-4)
        assert float((wanted - untouched).abs().max()) > 1e-4
    lens = LensScore(Site(engine.shape_of("decoder").layers - 1, "residual_after"), readouts[0].answer)
    read = engine.run([Run(prompt, (lens,))])[0].answer
    assert read.logit_diff == pytest.approx(float(_logits(model, prompt)[4] - _logits(model, prompt)[5]), abs=1e-4)


@torch.no_grad()
def _logits(model: HuggingFaceModel, prompt: EncodedPrompt) -> torch.Tensor:
    logits: torch.Tensor = model.module(**model.collate([prompt]), use_cache=False).logits[0, -1].double()
    return logits


def test_a_saved_folder_of_blips_questions_is_loaded_by_the_librarys_class(folders: Callable[[str], Path], tmp_path: Path) -> None:
    model = load(folders("blip_questions"))
    model.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["architectures"] == ["BlipForQuestionAnswering"]
    again = of_library(tmp_path / "saved", "blip_questions").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.module.state_dict().items())
    prompt = model.encode(picture(1), QUESTION)
    assert load(tmp_path / "saved").respond([prompt], 2)[0] == model.respond([prompt], 2)[0]


def test_weights_of_a_class_that_answers_no_question_are_named_with_it(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders("blip_questions"), tmp_path / "retrieval")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BlipForImageTextRetrieval"]}))
    with pytest.raises(InvalidFileError, match="a BlipForImageTextRetrieval loaded as BlipForConditionalGeneration, hold"):
        load(folder)


def test_words_of_a_page_are_positions_of_the_image(folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """OCR itself stands aside here: it is a program of its own."""
    monkeypatch.setattr(pages, "_missing", lambda: False)
    monkeypatch.setattr(layoutlmv3, "requires_backends", lambda *_: None)
    monkeypatch.setattr(layoutlmv3, "apply_tesseract", lambda *_, **__: PAGE)
    model, module = load(folders("udop"), ocr=True), of_library(folders("udop"), "udop")
    image = picture(1, (64, 48))
    prompt = model.encode(image, QUESTION)
    assert prompt.inputs["bbox"][0, -3:-1].tolist() == PAGE[1]
    marked = [token for token, kind in zip(prompt.tokens, prompt.classes, strict=True) if kind == "image"]
    assert marked == ["▁the", "▁red", *["<image>"] * 16]
    assert prompt.tokens[prompt.last] == "</s>"
    first = model.respond([prompt], 1)[1][0]
    assert int(first.argmax()) == generated(module, "udop", model.processor, image, QUESTION, 1)[0]
    assert load(folders("udop")).info.processor_hash != model.info.processor_hash


def test_a_page_whose_words_cannot_be_read_is_refused_with_the_way_out(
    folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_missing", lambda: True)
    with pytest.raises(UnsupportedError, match=r"by OCR, for which the program tesseract .* --model-option ocr=false"):
        load(folders("udop"), ocr=True)
    assert "by OCR" in hf.describe("own", str(folders("udop")), ocr=True).problem
    with pytest.raises(UnsupportedError, match="reads no words off an image; leave ocr out"):
        load(folders("florence2"), ocr=False)


def test_a_library_without_float64_ends_the_measure_of_drift_in_a_reason(folders: Callable[[str], Path]) -> None:
    only = drift(load(folders("kosmos-2")))
    assert [(one.dtype, one.error) for one in only] == [("float64", None)]
    assert "overflow" in only[0].reason


def test_the_measure_of_drift_passes_on_no_remark_of_the_library(folders: Callable[[str], Path]) -> None:
    said: list[logging.LogRecord] = []
    handler, library = logging.Handler(), logging.getLogger("transformers")
    handler.emit = said.append  # type: ignore[method-assign]
    model = load(folders("blip_questions"))
    library.addHandler(handler)
    try:
        found = drift(model)
    finally:
        library.removeHandler(handler)
    assert not said
    assert [one.attention for one in found if one.reason] == ["sdpa"] * 3


def test_a_processor_that_its_model_cannot_read_is_one_line(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = build_checkpoint("git", tmp_path / "git")
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    settings["image_processor"] |= {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    file.write_text(json.dumps(settings))
    with pytest.raises(UnsupportedError, match="the model cannot read what its processor writes: "):
        load(folder).encode(picture(1), QUESTION)
    assert "cannot read what its processor writes" in hf.describe("own", str(folder)).problem


@pytest.mark.skipif(_TORCHVISION, reason="torchvision is here")
def test_a_processor_that_torchvision_alone_has_is_refused_with_what_to_install(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders("trocr"), tmp_path / "trocr")
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    settings["image_processor"]["image_processor_type"] = "PPFormulaNetImageProcessor"
    file.write_text(json.dumps(settings))
    with pytest.raises(InvalidFileError, match=r"its processor needs torchvision .*: pip install torchvision"):
        load(folder)


@pytest.mark.slow
def test_questions_are_drawn_with_the_cached_font_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build_checkpoint("pix2struct", tmp_path / "pix2struct")
    first = load(folder)
    first.processor.image_processor.is_vqa = True
    first.processor.save_pretrained(folder)
    cache = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    with pytest.raises(UnsupportedError, match=r"fetch it once: hf download ybelkada/fonts Arial\.TTF"):
        load(folder)
    assert "fetch it once" in hf.describe("own", str(folder)).problem
    fonts = cache / "models--ybelkada--fonts"
    (fonts / "refs").mkdir(parents=True)
    (fonts / "refs" / "main").write_text("1" * 40)
    place = fonts / "snapshots" / ("1" * 40)
    place.mkdir(parents=True)
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    shutil.copy(font, place / "Arial.TTF")
    model = load(folder)
    prompt = model.encode(picture(1), QUESTION)
    wanted = model.processor(images=[picture(1)], text=[QUESTION], font_path=str(font), return_tensors="pt")
    assert torch.equal(prompt.inputs["flattened_patches"], wanted["flattened_patches"])


def test_a_folder_without_a_chat_template_is_asked_with_its_processors_own_word_for_an_image(tmp_path: Path) -> None:
    """T5Gemma 2's word for an image becomes other tokens; its published folders are no chat models."""
    folder = build_checkpoint("t5gemma2", tmp_path / "t5gemma2")
    for file in ("chat_template.jinja", "chat_template.json"):
        (folder / file).unlink(missing_ok=True)
    model = load(folder)
    assert model.template.before == "<start_of_image>\n"
    assert len(model.encode(picture(1), QUESTION).positions("image")) == 4
