"""Loading: what identifies a model, random models of the same shape, and one clear line for everything that is broken."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from vseam_core.errors import InvalidFileError, UnknownNameError, UnsupportedError, VseamError
from vseam_core.huggingface.fingerprints import weights_hash
from vseam_plugins.models import hf, instructblip, llava
from vseam_plugins.models.hf import HuggingFaceModel

from .builders import HEADS, LAYERS, WIDTH, build_llava, picture, text_config

QUESTION = "Is the red dog left of the cat?"


class Bomb:
    """An object whose unpickling runs code."""

    went_off = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Bomb, "went_off", True)


@pytest.fixture
def folder(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the LLaVA checkpoint that a test may damage."""
    return Path(shutil.copytree(checkpoints["llava-words"], tmp_path / "copy"))


def load(folder: Path, **options: Any) -> HuggingFaceModel:
    return llava.load("mine", str(folder), device="cpu", **options)


def failure(folder: Path, kind: type[VseamError] = InvalidFileError, **options: Any) -> str:
    """The message of the error that loading raises; always one line that names the model."""
    with pytest.raises(kind) as caught:
        load(folder, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert "'mine'" in text
    return text


def last_logits(model: HuggingFaceModel, seed: int = 0) -> torch.Tensor:
    with torch.no_grad():
        return model.module(**model.collate([model.encode(picture(seed), QUESTION)])).logits[0, -1].float()


def test_info_describes_the_model(llava_words: HuggingFaceModel, checkpoints: dict[str, Path]) -> None:
    info = llava_words.info
    assert (info.name, info.family, info.source) == ("llava-words", "llava", str(checkpoints["llava-words"]))
    assert (info.layers, info.heads, info.head_dim) == (LAYERS, HEADS, WIDTH // HEADS)
    assert (info.dtype, info.device, info.attention) == ("float32", "cpu", "sdpa")
    assert len(info.weights_hash) == len(info.processor_hash) == 64
    assert not llava_words.module.training


def test_hashes_do_not_depend_on_the_path_or_the_name(folder: Path, llava_words: HuggingFaceModel) -> None:
    again = load(folder).info
    assert again.weights_hash == llava_words.info.weights_hash
    assert again.processor_hash == llava_words.info.processor_hash


def test_the_weights_hash_changes_with_a_single_weight(folder: Path, llava_words: HuggingFaceModel) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[0] += 1e-3
    save_file(tensors, path, metadata={"format": "pt"})
    changed = load(folder).info
    assert changed.weights_hash != llava_words.info.weights_hash
    assert changed.processor_hash == llava_words.info.processor_hash


def test_the_weights_hash_sees_swapped_tensors(llava_words: HuggingFaceModel) -> None:
    first, second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    one = torch.nn.ModuleDict({"a": first, "b": second})
    other = torch.nn.ModuleDict({"a": second, "b": first})
    assert weights_hash(one) != weights_hash(other)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("processor_config.json", '"do_center_crop": true', '"do_center_crop": false'),
        ("tokenizer.json", '"red": ', '"rod": '),
        ("chat_template.jinja", "ASSISTANT", "HELPER"),
    ],
)
def test_the_processor_hash_changes_with_what_the_processor_does(
    folder: Path, llava_words: HuggingFaceModel, file: str, old: str, new: str
) -> None:
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new), encoding="utf-8")
    info = load(folder).info
    assert info.processor_hash != llava_words.info.processor_hash
    assert info.weights_hash == llava_words.info.weights_hash


def test_using_a_model_does_not_change_its_processor_hash(folder: Path, llava_words: HuggingFaceModel) -> None:
    from vseam_core.huggingface.fingerprints import processor_hash

    model = load(folder)
    model.generate([model.encode(picture(), QUESTION)], 2)
    assert processor_hash(model.processor) == model.info.processor_hash


def test_half_precision_files_are_computed_in_float32_unless_asked(tmp_path: Path) -> None:
    build_llava(tmp_path / "half", seed=1, half=True)
    full, half = load(tmp_path / "half"), load(tmp_path / "half", dtype="bfloat16")
    assert full.info.dtype == "float32"
    assert {parameter.dtype for parameter in full.module.parameters()} == {torch.float32}
    assert half.info.dtype == "bfloat16"
    assert torch.allclose(last_logits(full), last_logits(half), atol=0.2 * float(last_logits(full).abs().max()))
    assert load(tmp_path / "half", dtype="float16").info.weights_hash == full.info.weights_hash, "same weights, same hash"


def test_attention_implementations_agree_and_are_recorded(folder: Path, llava_words: HuggingFaceModel) -> None:
    eager = load(folder, attention="eager")
    assert eager.info.attention == "eager"
    assert torch.allclose(last_logits(eager), last_logits(llava_words), atol=1e-4)


@pytest.mark.parametrize("loader", [llava.load, instructblip.load])
def test_random_weights_come_from_the_seed_alone(checkpoints: dict[str, Path], loader: Any) -> None:
    family = "llava" if loader == llava.load else "instructblip"
    source = str(checkpoints[f"{family}-words"])
    first, again, other = (loader("m", source, device="cpu", random_seed=seed) for seed in (3, 3, 4))
    trained = loader("m", source, device="cpu")
    assert first.info.name == "m@random-3"
    assert first.info.weights_hash == again.info.weights_hash
    assert len({first.info.weights_hash, other.info.weights_hash, trained.info.weights_hash}) == 3
    assert torch.equal(last_logits(first), last_logits(again))
    shapes = [{name: value.shape for name, value in model.module.state_dict().items()} for model in (first, trained)]
    assert shapes[0] == shapes[1]
    assert (last_logits(first, 0) - last_logits(first, 1)).abs().max() > 1e-6, "a random model still reads its image"


def test_the_query_tokens_of_a_random_qformer_differ(checkpoints: dict[str, Path]) -> None:
    model = instructblip.load("m", str(checkpoints["instructblip-words"]), device="cpu", random_seed=0)
    queries = model.module.query_tokens[0]
    assert torch.cdist(queries, queries).add(torch.eye(len(queries))).min() > 1e-3


def test_random_weights_leave_the_global_generators_untouched(folder: Path) -> None:
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    load(folder, random_seed=11)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]
    assert torch.get_default_dtype() == torch.float32


def test_random_weights_need_no_weights_in_the_folder(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert load(folder, random_seed=1).info.name == "mine@random-1"
    assert "lacks weights; expected model.safetensors" in failure(folder)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("config.json", "lacks its configuration; expected config.json"),
        ("processor_config.json", "lacks an image processor"),
        ("model.safetensors", "lacks weights"),
    ],
)
def test_a_missing_file_is_named(folder: Path, name: str, expected: str) -> None:
    (folder / name).unlink()
    text = failure(folder)
    assert expected in text
    assert str(folder) in text


def test_a_folder_without_tokenizer_is_named(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    assert "lacks a tokenizer" in failure(folder)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "only pytorch_model.bin: pickles are not read" in failure(folder)


def test_pickled_weights_are_read_where_the_caller_says_so(folder: Path, llava_words: HuggingFaceModel) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert load(folder, allow_pickle=True).info.weights_hash == llava_words.info.weights_hash
    assert "lacks weights" in failure(folder)


def test_a_pickle_that_holds_more_than_tensors_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Bomb()}, folder / "pytorch_model.bin")
    assert "cannot read the weights" in failure(folder, allow_pickle=True)
    assert not Bomb.went_off


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "processor_config.json", "model.safetensors"])
def test_a_damaged_file_stops_with_one_line(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    assert "cannot read the" in failure(folder)


def test_weights_that_the_file_lacks_are_not_made_up(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if "o_proj" in name)
    save_file({key: value for key, value in tensors.items() if key != name}, path, metadata={"format": "pt"})
    text = failure(folder)
    assert "lack 1 tensor " in text
    assert "o_proj" in text


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks model-00002-of-00002.safetensors, which its index names" in failure(folder)
    (folder / "model.safetensors.index.json").write_text("[]")
    assert "is not an index" in failure(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "no folder at" in failure(tmp_path / "nowhere")


def test_a_model_without_eyes_is_refused(folder: Path) -> None:
    LlamaForCausalLM(LlamaConfig(**text_config(39))).save_pretrained(folder)
    assert "'llama' model, not an image-text-to-text one" in failure(folder, UnsupportedError)


def test_a_model_of_another_family_is_refused_with_the_loader_to_use(checkpoints: dict[str, Path]) -> None:
    text = failure(checkpoints["instructblip-words"], UnsupportedError)
    assert "holds a 'instructblip' model; expected llava" in text
    assert "hf" in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dtype": "float23"}, "unknown dtype 'float23'; did you mean 'float32'"),
        ({"device": "tpu9000"}, "unknown device 'tpu9000'"),
        ({"prompt_tempalte": "x"}, "unknown option 'prompt_tempalte'; did you mean 'prompt_template'"),
    ],
)
def test_unknown_settings_are_answered_with_the_known_ones(folder: Path, options: dict[str, str], expected: str) -> None:
    with pytest.raises(UnknownNameError, match=expected):
        llava.load("mine", str(folder), **{"device": "cpu", **options})


def test_an_unknown_attention_implementation_is_one_line(folder: Path) -> None:
    assert "flash_attention_99" in failure(folder, attention="flash_attention_99")
    assert "flash_attention_99" in failure(folder, attention="flash_attention_99", random_seed=1)


def test_attention_that_is_compiled_for_every_prompt_or_fetched_is_refused_at_once_whoever_asks_for_it(folder: Path) -> None:
    assert "take attention eager, sdpa" in failure(folder, UnsupportedError, attention="flex_attention")
    assert "take attention eager, sdpa" in failure(folder, UnsupportedError, attention={"text_config": "flex_attention"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attn_implementation": "flex_attention"}))
    assert "flex_attention is compiled" in failure(folder, UnsupportedError)
    (folder / "config.json").write_text(json.dumps({**config, "attn_implementation": "somebody/kernel"}))
    assert "would be fetched from the hub and run" in failure(folder, UnsupportedError)
    assert "would be fetched from the hub and run" in failure(folder, UnsupportedError, attention="somebody/kernel")
    assert load(folder, attention="eager").info.attention == "eager"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_one_line(folder: Path) -> None:
    with pytest.raises(VseamError, match="sees no GPU"):
        llava.load("mine", str(folder), device="cuda")


@pytest.mark.parametrize("failure", [ConnectionError("no route"), HTTPError("timed out"), OfflineModeIsEnabled("offline")], ids=repr)
def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    with pytest.raises(VseamError) as caught:
        hf.load("mine", "nobody-at-all/no-such-model-7b", device="cpu")
    assert "the hub cannot be reached and the local cache lacks it" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_loaded_without_asking_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load(folder).info.name == "mine"


def test_loading_says_nothing_on_the_terminal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(folder)
    load(folder, random_seed=1)
    assert tuple(capfd.readouterr()) == ("", "")


def test_an_old_llava_processor_learns_its_grid_from_the_model(folder: Path) -> None:
    path = folder / "processor_config.json"
    settings = json.loads(path.read_text())
    for name in ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens"):
        settings.pop(name)
    path.write_text(json.dumps(settings))
    assert load(folder).encode(picture(), QUESTION).classes.count("image") == 16


@pytest.mark.parametrize("seed", [None, 3])
def test_half_precision_leaves_rotary_frequencies_as_the_library_has_them(checkpoints: dict[str, Path], seed: int | None) -> None:
    model = llava.load("half", str(checkpoints["llava-words"]), device="cpu", dtype="bfloat16", random_seed=seed)
    text = model.module.model.language_model
    assert text.rotary_emb.inv_freq.dtype == torch.float32
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.bfloat16}
