"""Small images of measured samples and masks: kept once each by their digest, so that a page can show what was measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from vseam_core.store import schema
from vseam_core.store.shared_rows import chunks, insert

if TYPE_CHECKING:
    from vseam_core.store.store import Store


@dataclass(frozen=True)
class Thumbnail:
    """An encoded image of at most a few kilobytes; `width` and `height` are those of the image that it was made from."""

    data: bytes
    format: str
    width: int
    height: int

    @property
    def digest(self) -> str:
        """What equal thumbnails have in common."""
        return hashlib.sha256(self.data).hexdigest()


def without_thumbnail(store: Store, identifiers: Iterable[str]) -> set[str]:
    """Those of the stored samples that have none yet."""
    table = schema.samples
    found: set[str] = set()
    with store.reading() as connection:
        for chunk in chunks(dict.fromkeys(identifiers)):
            query = select(table.c.identifier).where(table.c.identifier.in_(chunk), table.c.thumbnail.is_(None))
            found.update(connection.execute(query).scalars())
    return found


def put_thumbnails(store: Store, samples: Mapping[str, Thumbnail], masks: Mapping[str, Thumbnail]) -> None:
    """Keep thumbnails of samples by identifier, and of masks by the identifier of their edit; unknown ones are passed over."""
    if not samples and not masks:
        return
    with store.transaction() as connection:
        _put_images(connection, [*samples.values(), *masks.values()])
        for name, image in samples.items():
            row = {"thumbnail": image.digest, "image_width": image.width, "image_height": image.height}
            connection.execute(schema.samples.update().where(schema.samples.c.identifier == name).values(**row))
        for name, image in masks.items():
            connection.execute(schema.edits.update().where(schema.edits.c.identifier == name).values(mask_thumbnail=image.digest))


def _put_images(connection: Connection, images: Iterable[Thumbnail]) -> None:
    table = schema.thumbnails
    wanted = {image.digest: image for image in images}
    for chunk in chunks(wanted):
        for digest in connection.execute(select(table.c.digest).where(table.c.digest.in_(chunk))).scalars():
            del wanted[digest]
    insert(connection, table, [{"digest": digest, "format": image.format, "data": image.data} for digest, image in wanted.items()])


def read_thumbnails(store: Store, digests: Iterable[str]) -> dict[str, tuple[str, bytes]]:
    """Format and bytes of thumbnails by digest."""
    table = schema.thumbnails
    found: dict[str, tuple[str, bytes]] = {}
    with store.reading() as connection:
        for chunk in chunks(dict.fromkeys(digests)):
            query = select(table.c.digest, table.c.format, table.c.data).where(table.c.digest.in_(chunk))
            found.update((digest, (kind, data)) for digest, kind, data in connection.execute(query))
    return found
