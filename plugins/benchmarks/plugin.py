"""Registers the benchmarks that are read from files."""

from __future__ import annotations

from collections.abc import Iterator

from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import DatasetRecord

PLUGIN_API = 1

_ROOM = "vseam_plugins.benchmarks"
_GQA = {
    "animal": "is there a bird in this picture?",
    "vehicle": "is there a truck in this picture?",
    "indoor": "is there a table in this picture?",
    "color": "are the pants purple?",
    "material": "is the sidewalk made of brick?",
    "spatial": "is the woman in front of the statue?",
    "action": "is the woman holding the skis?",
}
_VQA = {"vqav2": "VQA v2", "okvqa": "OK-VQA", "textvqa": "TextVQA", "vizwiz": "VizWiz"}

_OTHERS = {
    "mmbench": ("MMBench: multiple choice, right in every order of the options", "mmbench:MmbenchBenchmark"),
    "scienceqa": ("ScienceQA: multiple choice from school books, those with an image", "scienceqa:ScienceQaBenchmark"),
    "mmstar": ("MMStar: multiple choice that needs the image", "mmstar:MmstarBenchmark"),
    "seedbench": ("SEED-Bench: multiple choice about images", "seedbench:SeedBenchmark"),
    "naturalbench": ("NaturalBench: two questions on two images with other answers", "paired:NaturalBench"),
    "winoground": ("Winoground: two captions of the same words, two images", "paired:Winoground"),
    "hallusionbench": ("HallusionBench: yes/no questions about figures and their altered copies", "hallusionbench:HallusionBench"),
    "vsr": ("VSR: captions about where things are, true or false", "vsr:VsrBenchmark"),
    "mmmu": ("MMMU: college questions with figures, those with one image", "mmmu:MmmuBenchmark"),
    "amber": ("AMBER: yes/no questions about what is and is not there", "amber:AmberBenchmark"),
    "amber/generative": ("AMBER: which things descriptions make up", "amber_generative:AmberDescriptions"),
    "chair": ("CHAIR: which objects captions of COCO images make up", "chair:ChairBenchmark"),
    "cvbench": ("CV-Bench: counts, places, depths and distances, multiple choice", "cvbench:CvBenchmark"),
}


@hookimpl
def vseam_datasets() -> Iterator[DatasetRecord]:
    """GQA and its published subsets, POPE, COCO-QA, VQA and its relatives, MME, CLEVR, and the user's own table."""
    yield DatasetRecord(name="gqa", summary="GQA, an official question file", factory=f"{_ROOM}.gqa:GqaBenchmark")
    for subset, example in _GQA.items():
        yield DatasetRecord(
            name=f"gqa/{subset}",
            summary=f"GQA, V-SEAM's subset: {example}",
            factory=f"{_ROOM}.gqa:GqaBenchmark",
            options={"subset": subset},
        )
    for split in ("adversarial", "popular", "random"):
        yield DatasetRecord(
            name=f"pope/{split}",
            summary=f"POPE: is there a … in the image? ({split} absent things)",
            factory=f"{_ROOM}.pope:PopeBenchmark",
            options={"split": split},
        )
    yield DatasetRecord(name="cocoqa", summary="COCO-QA, the official release", factory=f"{_ROOM}.cocoqa:CocoQaBenchmark")
    for subset in ("color", "count", "location"):
        yield DatasetRecord(
            name=f"cocoqa/{subset}",
            summary=f"COCO-QA, V-SEAM's file of {subset} questions",
            factory=f"{_ROOM}.cocoqa:CocoQaBenchmark",
            options={"subset": subset},
        )
    for name, title in _VQA.items():
        yield DatasetRecord(
            name=name, summary=f"{title}, judged by VQA accuracy", factory=f"{_ROOM}.vqa:VqaBenchmark", options={"name": name}
        )
    yield DatasetRecord(name="mme", summary="MME: two yes/no questions about each image", factory=f"{_ROOM}.mme:MmeBenchmark")
    yield DatasetRecord(name="clevr", summary="CLEVR: questions about rendered solids", factory=f"{_ROOM}.clevr:ClevrBenchmark")
    for subset in ("a", "b"):
        yield DatasetRecord(
            name=f"whatsup/{subset}",
            summary=f"What'sUp, controlled images {subset.upper()}: where one thing is to another",
            factory=f"{_ROOM}.whatsup:WhatsUpBenchmark",
            options={"subset": subset},
        )
    for name, (summary, factory) in _OTHERS.items():
        yield DatasetRecord(name=name, summary=summary, factory=f"{_ROOM}.{factory}")
    yield DatasetRecord(
        name="table",
        summary="your own CSV, JSON lines or parquet file, by a mapping of its columns",
        factory=f"{_ROOM}.table:TableBenchmark",
    )
