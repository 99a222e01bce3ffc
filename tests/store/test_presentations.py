"""How effects are shown: the latest presentation of a run, and what several processes add to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from vseam_core.store import Store

from .builders import run_spec

BOX = [[0.0, 0.0, 1.0, 1.0]]


def test_what_eight_processes_note_of_one_run_at_once_is_kept_from_all(store: Store) -> None:
    run = store.ensure_run(run_spec())

    def note(number: int) -> None:
        store.present_run(run, {"view": "map", "places": [[f"{number}x1", BOX]], "tokens": []}, gathered=("places", "tokens"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(note, range(8)))
    assert store.presentation(run) == {"view": "map", "places": [[f"{number}x1", BOX] for number in range(8)], "tokens": []}


def test_of_everything_else_the_latest_is_shown(store: Store) -> None:
    run = store.ensure_run(run_spec())
    store.present_run(run, {"view": "map", "places": [["1x1", BOX]]}, gathered=("places",))
    store.present_run(run, {"view": "curve", "places": []}, gathered=("places",))
    assert store.presentation(run) == {"view": "curve", "places": [["1x1", BOX]]}
    store.present_run(run, {"view": "curve"})
    assert store.presentation(run) == {"view": "curve"}
