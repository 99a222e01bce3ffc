"""What a person reviews: stored edits with their images, plan, checks and the verdicts so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vseam_core.errors import InvalidFileError, UnknownNameError, did_you_mean
from vseam_core.files import read_bytes
from vseam_core.store.codec import decode_json

if TYPE_CHECKING:
    from vseam_core.store.reviews import Verdict
    from vseam_core.store.store import Store

SCHEMA = "vseam.edit-review/1"
_SHORTEST_KEY = 6
_MOST_BYTES = 32_000_000


@dataclass(frozen=True)
class ReviewItem:
    """One edit as a reviewer sees it. Paths are None where no image was written."""

    identifier: str
    key: str
    question: str
    clean_answer: str
    corrupt_answer: str
    edit: str
    editor: str
    kind: str
    verdict: str
    reason: str
    clean: Path | None
    corrupt: Path | None
    mask: Path | None
    plan: Mapping[str, Any]
    checks: Mapping[str, float]
    reviews: Sequence[Mapping[str, str]] = ()


class _Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    identifier: Annotated[str, Field(min_length=1)]
    verdict: Literal["accepted", "rejected"]
    comment: str = ""


class _Export(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    schema_name: Literal["vseam.edit-review/1"] = Field(alias="schema")
    reviewer: str = ""
    verdicts: list[_Verdict]


def review_items(store: Store, editor: str | None = None, dataset: str | None = None) -> list[ReviewItem]:
    """Every stored edit that has images: those without a verdict first, the edit of a sample before its controls."""
    frame, reviews = store.edits(), store.reviews()
    items, places = [], {}
    for row in frame.to_dict("records"):
        if (editor is not None and row["editor"] != editor) or (dataset is not None and row["dataset"] != dataset):
            continue
        if not row["clean_path"] or not row["image_path"]:
            continue
        item = _item(row, reviews.get(row["identifier"], []))
        items.append(item)
        places[item.identifier] = (bool(item.reviews), row["clean"], row["kind"] != "edit", item.kind, item.identifier)
    return sorted(items, key=lambda item: places[item.identifier])


def _item(row: Mapping[Any, Any], reviews: Sequence[Mapping[str, str]]) -> ReviewItem:
    plan = decode_json(row["plan"], "the plan of an edit") if row["plan"] else {}
    details = {"planner": row["planner"], "mask": row["mask_provider"], "confidence": row["confidence"], **plan}
    return ReviewItem(
        identifier=row["identifier"],
        key=row["edit_key"] or "",
        question=row["question"],
        clean_answer=row["answer"],
        corrupt_answer=row["corrupt_answer"],
        edit=f"{row['source_term']} → {row['target_term']}",
        editor=row["editor"],
        kind=row["control"] or row["kind"],
        verdict=row["verdict"] or "",
        reason=row["reason"] or "",
        clean=Path(row["clean_path"]),
        corrupt=Path(row["image_path"]),
        mask=Path(row["mask"]) if row["mask"] else None,
        plan={name: value for name, value in details.items() if value not in (None, "", []) and value == value},
        checks=row["checks"],
        reviews=tuple(reviews),
    )


def find_edit(items: Iterable[ReviewItem], name: str) -> str:
    """The identifier that a person means by it or by the beginning of the edit's key. Raises `UnknownNameError`."""
    known = list(items)
    exact = [item.identifier for item in known if item.identifier == name]
    found = exact or [item.identifier for item in known if len(name) >= _SHORTEST_KEY and item.key.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownNameError(f"edit {name!r}: {len(found)} edits begin like this, give more of the key")
    keys = [item.key[:12] or item.identifier for item in known]
    raise UnknownNameError(f"unknown edit {name!r}; {did_you_mean(name, keys[:20])}")


def import_verdicts(store: Store, path: Path, reviewer: str | None = None) -> tuple[int, list[str]]:
    """Store what the review page exported; returns how many verdicts were stored, and the edits that this database does not have.

    Raises `InvalidFileError` for a file that is no such export.
    """
    try:
        export = _Export.model_validate_json(read_bytes(path, _MOST_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InvalidFileError(f"{path}: {where}: {first['msg']}; expected an export of the review page ({SCHEMA})") from None
    known = set(store.edits()["identifier"])
    unknown = [item.identifier for item in export.verdicts if item.identifier not in known]
    for item in export.verdicts:
        if item.identifier in known:
            verdict: Verdict = item.verdict
            store.review_edit(item.identifier, verdict, export.reviewer if reviewer is None else reviewer, item.comment)
    return len(export.verdicts) - len(unknown), unknown
