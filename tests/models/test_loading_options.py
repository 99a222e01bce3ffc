"""Where weights lie and how they are stored: placement over devices, offloading, quantisation, pins, the cache, and their refusals."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

from vseam_core.api.interventions import LensScore, Run, Site
from vseam_core.api.stored_weights import stored_weight
from vseam_core.engine.decoder import find_decoder
from vseam_core.engine.selfcheck import checked_engine
from vseam_core.errors import PluginError, UnknownNameError, UnsupportedError, VseamError
from vseam_core.experiments.ablation import head_norms
from vseam_plugins.heads.rescaling import fold_into_weights
from vseam_plugins.models import hf, llava
from vseam_plugins.models.hf import HuggingFaceModel

from . import builders
from .builders import picture

QUESTION = "Is the red dog left of the cat?"
_ON_CPU = ("model.vision_tower", "model.multi_modal_projector", "model.language_model.embed_tokens", "model.language_model.layers.0")
_ON_CPU_TOO = ("model.language_model.norm", "model.language_model.rotary_emb", "lm_head")
OFFLOADED = {**dict.fromkeys((*_ON_CPU, *_ON_CPU_TOO), "cpu"), "model.language_model.layers.1": "disk"}


def load(folder: Path, **options: Any) -> HuggingFaceModel:
    return llava.load("mine", str(folder), device="cpu", **options)


def logits(model: HuggingFaceModel) -> torch.Tensor:
    with torch.no_grad():
        return model.module(**model.collate([model.encode(picture(), QUESTION)])).logits[0, -1].float()


def needs(package: str) -> pytest.MarkDecorator:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return pytest.mark.skip(reason=f"needs {package}")
    return pytest.mark.skipif(False, reason="")


@needs("accelerate")
@pytest.mark.parametrize("device_map", ["auto", OFFLOADED], ids=["auto", "disk"])
def test_a_spread_model_computes_the_same_and_has_the_same_hash(
    checkpoints: dict[str, Path], llava_words: HuggingFaceModel, device_map: Any, tmp_path: Path
) -> None:
    model = load(checkpoints["llava-words"], device_map=device_map, **({} if device_map == "auto" else {"offload_folder": str(tmp_path)}))
    assert model.info.weights_hash == llava_words.info.weights_hash
    assert torch.allclose(logits(model), logits(llava_words), atol=1e-5)
    assert model.generate([model.encode(picture(), QUESTION)], 3) == llava_words.generate([llava_words.encode(picture(), QUESTION)], 3)


@needs("accelerate")
def test_an_offloaded_model_is_run_in_full_passes_and_says_so(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model = load(checkpoints["llava-words"], device_map=OFFLOADED, offload_folder=str(tmp_path))
    assert model.info.device == "cpu, disk"
    _, trust = checked_engine(model)
    assert "several devices" in trust["fallback"]
    assert trust["logits_error"] < 1e-3


@needs("accelerate")
def test_weights_of_an_offloaded_layer_are_fetched_where_they_are_read(
    checkpoints: dict[str, Path], llava_words: HuggingFaceModel, tmp_path: Path
) -> None:
    model = load(checkpoints["llava-words"], device_map=OFFLOADED, offload_folder=str(tmp_path))
    whole, spread = find_decoder(llava_words.module), find_decoder(model.module)
    assert spread.layers[1].output_projection.weight.is_meta
    for layer in range(2):
        expected, found = (stored_weight(each.layers[layer].output_projection) for each in (whole, spread))
        assert torch.equal(expected, found)
    answer = llava_words.answer_ids(llava_words.encode(picture(), QUESTION), "Yes", "No")
    values, norms = [], []
    for each in (llava_words, model):
        engine, _ = checked_engine(each)
        prompt = each.encode(picture(), QUESTION)
        values.append(engine.run([Run(prompt, (LensScore(Site(1, "head_output", 2), answer),))])[0].readouts[0][0].logit_diff)
        references: Any = SimpleNamespace(engine=engine, members=[SimpleNamespace(prompt=prompt)])
        norms.append(head_norms(references))
    assert values[0] == pytest.approx(values[1], abs=1e-4)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@needs("accelerate")
def test_an_offloaded_layer_is_not_rescaled_in_silence(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model = load(checkpoints["llava-words"], device_map=OFFLOADED, offload_folder=str(tmp_path))
    with pytest.raises(UnsupportedError, match="layer 1: its weights are offloaded"), fold_into_weights(model, {"L1H0": 2.0}):
        pass
    with fold_into_weights(model, {"L0H0": 2.0}):
        pass


def test_an_edit_that_a_weight_does_not_take_is_refused(llava_words: HuggingFaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    # As with some quantised tensors, which take an edit in place without an error and stay as they were.
    monkeypatch.setattr(torch.Tensor, "__imul__", lambda self, other: self)
    with pytest.raises(UnsupportedError, match="did not take the edit"), fold_into_weights(llava_words, {"L0H0": 2.0}):
        pass


@needs("bitsandbytes")
@pytest.mark.parametrize("quantisation", ["8bit", "4bit"])
def test_quantised_weights_answer_nearly_the_same_under_another_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantisation: str, caplog: pytest.LogCaptureFixture
) -> None:
    # On a CPU, 4 bits come in blocks of 64 inputs.
    monkeypatch.setattr(builders, "WIDTH", 64)
    monkeypatch.setattr(builders, "INNER_WIDTH", 64)
    folder = builders.build_llava(tmp_path / "wide", seed=1)
    plain, model, again = load(folder), load(folder, quantisation=quantisation), load(folder, quantisation=quantisation)
    assert model.info.dtype == f"float32+{quantisation}"
    assert len({plain.info.weights_hash, model.info.weights_hash}) == 2
    assert again.info.weights_hash == model.info.weights_hash
    exact, rounded = logits(plain), logits(model)
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.9
    assert not torch.allclose(exact, rounded, atol=1e-5)
    assert caplog.text.count("MatMul8bitLt") == 0


@pytest.mark.parametrize(
    ("options", "kind", "expected"),
    [
        ({"device_map": "atuo"}, UnknownNameError, "unknown device_map 'atuo'; did you mean 'auto'"),
        ({"device_map": 3}, VseamError, "option device_map is 3, expected text, a mapping or null"),
        ({"max_memory": {0: "2GB"}}, VseamError, "give device_map too"),
        ({"quantisation": "3bit"}, UnknownNameError, "unknown quantisation '3bit'"),
        ({"local_files_only": "yes"}, VseamError, "option local_files_only is 'yes', expected true or false"),
        ({"revision": "main"}, VseamError, "a revision is a commit, branch or tag of the hub"),
    ],
)
def test_options_without_a_meaning_are_one_line(
    checkpoints: dict[str, Path], options: dict[str, Any], kind: type[VseamError], expected: str
) -> None:
    with pytest.raises(kind, match=expected) as caught:
        load(checkpoints["llava-words"], **options)
    assert "\n" not in str(caught.value)


@needs("bitsandbytes")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"quantisation": "4bit", "random_seed": 1}, "random weights are not quantised"),
        ({"device_map": "auto", "random_seed": 1}, "random weights are drawn on one device"),
        ({"quantisation": "4bit", "dtype": "float64"}, "not computed in float64"),
    ],
)
def test_options_that_exclude_each_other_are_refused(checkpoints: dict[str, Path], options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UnsupportedError, match=expected):
        load(checkpoints["llava-words"], **options)


@pytest.mark.parametrize(("options", "extra"), [({"device_map": "auto"}, "large"), ({"quantisation": "4bit"}, "quantised")])
def test_a_missing_package_is_one_line_with_what_to_install(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], extra: str
) -> None:
    found = importlib.metadata.version

    def without(name: str) -> str:
        if name in ("accelerate", "bitsandbytes"):
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    lines = ["accelerate>=1.10; extra == 'large'", "accelerate>=1.10; extra == 'quantised'", "bitsandbytes>=0.46; extra == 'quantised'"]
    monkeypatch.setattr(importlib.metadata, "version", without)
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: lines)
    with pytest.raises(PluginError, match=rf"pip install 'vseam\[{extra}\]'$") as caught:
        load(checkpoints["llava-words"], **options)
    assert "\n" not in str(caught.value)


def hub_says(monkeypatch: pytest.MonkeyPatch, failure: type[Exception]) -> None:
    def answer(*_: Any, **__: Any) -> None:
        raise failure.__new__(failure)  # its own constructor wants the response of a server

    monkeypatch.setattr(HfApi, "model_info", answer)


def test_a_gated_model_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    hub_says(monkeypatch, GatedRepoError)
    with pytest.raises(VseamError, match="org/gated is gated; accept its licence on the hub and log in") as caught:
        hf.load("mine", "org/gated", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_revision_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hub_says(monkeypatch, RevisionNotFoundError)
    with pytest.raises(VseamError, match="the hub's org/model has no revision 'v9'"):
        hf.load("mine", "org/model", device="cpu", revision="v9")


def test_local_files_only_never_asks_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(HfApi, "model_info", asked)
    with pytest.raises(VseamError, match="the local cache lacks it, and local_files_only forbids to ask the hub") as caught:
        hf.load("mine", "nobody-at-all/no-such-model-7b", device="cpu", local_files_only=True)
    assert "\n" not in str(caught.value)


def test_a_model_in_the_local_cache_is_loaded_with_its_commit(
    checkpoints: dict[str, Path], llava_words: HuggingFaceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--org--cached"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "snapshots" / commit).symlink_to(checkpoints["llava-words"])
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for module in ("huggingface_hub.constants", "transformers.utils.hub"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path), raising=False)
    for name in ("huggingface_hub.file_download.constants.HF_HUB_CACHE", "transformers.utils.hub.constants.HF_HUB_CACHE"):
        monkeypatch.setattr(name, str(tmp_path), raising=False)
    model = hf.load("mine", "org/cached", device="cpu", local_files_only=True)
    assert model.info.revision == commit
    assert model.info.weights_hash == llava_words.info.weights_hash
    described = hf.describe("mine", "org/cached")
    assert (described.place, described.problem, described.family) == ("the hub's local cache", "", "llava")


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_a_processor_that_needs_torchvision_says_so(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints["llava-words"], tmp_path / "copy"))
    settings = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({**settings, "processor_class": "PixtralProcessor"}))
    with pytest.raises(VseamError, match=r"its processor needs torchvision .*: pip install torchvision$") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
