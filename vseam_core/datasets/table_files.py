"""Parquet and arrow files, and folders of them as Hugging Face `datasets` writes them: shards, several splits, `save_to_disk`.

A column of class labels holds numbers there and the names beside the schema: the names are given. Images are objects `{bytes, path}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam_core.errors import InvalidFileError, PluginError
from vseam_core.files import parse_json, read_bytes

if TYPE_CHECKING:
    import pyarrow

TABLE_SUFFIXES = (".parquet", ".arrow")
# What `datasets` puts after the name of a split: "test-00000-of-00002.parquet", also with a hash at the end.
_SHARD = re.compile(r"(?P<split>.*?)-?(?P<number>\d{5})-of-\d{5}(?:-[0-9a-f]+)?")
_STATE, _SPLITS = "state.json", "dataset_dict.json"
Row = tuple[str, Mapping[str, Any]]


def read_table(path: Path) -> Iterator[Row]:
    """Each row of a parquet or arrow file as (where it stands, its fields). Raises `InvalidFileError`, `PluginError` without pyarrow."""
    number = 0
    with _named(path):
        schema, batches = _opened(path)
        labels = _class_labels(schema)
        for batch in batches:
            for fields in batch.to_pylist():
                number += 1
                yield f"{path.name}, row {number}", {name: _label(labels, name, value) for name, value in fields.items()}


def read_folder(folder: Path, split: str = "") -> Iterator[Row]:
    """Each row of one split of a folder, shard after shard.

    Raises `InvalidFileError` where the folder holds no such files, not that split, or several and none is named.
    """
    shards = _splits_of(folder)
    if not shards:
        raise InvalidFileError(f"{folder}: a folder without parquet or arrow files; expected a question file")
    if not split and len(shards) > 1:
        raise InvalidFileError(
            f"{folder}: holds the splits {', '.join(shards)}; say which by the option source_split, or hub:OWNER/NAME:SPLIT"
        )
    wanted = split or next(iter(shards))
    if wanted not in shards:
        raise InvalidFileError(f"{folder}: has no split {wanted!r}; it holds {', '.join(shards)}")
    for path in shards[wanted]:
        yield from read_table(path)


def _splits_of(folder: Path) -> dict[str, list[Path]]:
    """The files of each split, in the order of their shards."""
    if (folder / _SPLITS).is_file():
        folders = sorted(one for one in folder.iterdir() if (one / _STATE).is_file())
        return {one.name: _shards_in_state(one) for one in folders}
    if (folder / _STATE).is_file():
        return {"": _shards_in_state(folder)}
    found: dict[str, list[Path]] = {}
    for path in sorted(each for suffix in TABLE_SUFFIXES for each in folder.rglob(f"*{suffix}")):
        shard = _SHARD.fullmatch(path.stem)
        found.setdefault(shard["split"].rpartition("/")[2] if shard else path.stem, []).append(path)
    return found


def _shards_in_state(folder: Path) -> list[Path]:
    """The files that `save_to_disk` lists, in its order."""
    path = folder / _STATE
    try:
        names = [str(one["filename"]) for one in parse_json(read_bytes(path).decode("utf-8"))["_data_files"]]
    except (InvalidFileError, ValueError, KeyError, TypeError):
        raise InvalidFileError(f"{path}: expected the list of data files that `save_to_disk` writes") from None
    if any(Path(name).name != name for name in names):
        raise InvalidFileError(f"{path}: names a file outside its folder")
    return [folder / name for name in names]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns what pyarrow raises into one line with the file's name."""
    try:
        yield
    except ImportError:
        raise PluginError(f"{path}: reading {path.suffix[1:]} needs pyarrow: pip install 'vseam[parquet]'") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidFileError(f"{path}: not a readable {path.suffix[1:]} file: {reason}") from None


def _opened(path: Path) -> tuple[pyarrow.Schema, Iterator[pyarrow.RecordBatch]]:
    """The schema of a file, and its rows a batch at a time. Arrow files of `datasets` are streams; those of other writers are read too."""
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as parquet

        file = parquet.ParquetFile(path)
        return file.schema_arrow, file.iter_batches(batch_size=256)
    import pyarrow

    source = pyarrow.memory_map(str(path))
    try:
        reader = pyarrow.ipc.open_stream(source)
        return reader.schema, iter(reader)
    except ValueError:
        source.seek(0)
        whole = pyarrow.ipc.open_file(source)
        return whole.schema, (whole.get_batch(number) for number in range(whole.num_record_batches))


def _class_labels(schema: pyarrow.Schema) -> dict[str, list[str]]:
    """The names of class labels by column, from what `datasets` keeps beside the schema."""
    try:
        features = parse_json((schema.metadata or {}).get(b"huggingface", b"{}").decode("utf-8"))["info"]["features"]
        return {name: list(one["names"]) for name, one in features.items() if isinstance(one, dict) and one.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _label(labels: Mapping[str, list[str]], name: str, value: Any) -> Any:
    names = labels.get(name)
    return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value
