"""Exact edits of a scene: one that turns the answer to a question, and a control of the same kind that does not.

An edit changes exactly one object, attribute or relation. Since noise and occluders belong to the image and not to
the objects, all pixels outside the returned boxes stay identical.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from vseam_plugins.benchmarks.scenes.questions import OPPOSITE, Question, free_cells, holds, in_action, reversing_cells, true_answer
from vseam_plugins.benchmarks.scenes.sprites import COLORS, GROUPS, KINDS, MATERIALS
from vseam_plugins.benchmarks.scenes.world import (
    Action,
    Box,
    Cell,
    Scene,
    SceneObject,
    action_box,
    object_box,
    possible_actions,
)

_VALUES = {"color": COLORS, "material": MATERIALS}
_WITHOUT_GLYPH = {"pulling": "next to", "carrying": "below"}


@dataclass(frozen=True, slots=True)
class Edited:
    """A changed scene, the true answer in it, the word that was true before and the one now, and the changed boxes."""

    scene: Scene
    answer: str
    source_term: str
    target_term: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class _Change:
    scene: Scene
    source_term: str
    target_term: str
    boxes: tuple[Box, ...]


def edit_scene(rng: random.Random, scene: Scene, question: Question) -> Edited | None:
    """Change what the question asks about so that its true answer becomes another one; None where one change cannot.

    Boxes are (x0, y0, x1, y1) in pixels, ends exclusive. The scene stays in its pool.
    """
    change: _Change | None
    if question.category in GROUPS:
        change = _edit_object(rng, scene, question)
    elif question.category in _VALUES:
        change = _edit_attribute(rng, scene, question)
    elif question.category == "spatial":
        change = _edit_spatial(rng, scene, question)
    elif question.form == "yes_no":
        change = _edit_action(rng, scene, question)
    else:
        change = _edit_patient(rng, scene, question)
    return _checked(change, question, turned=True)


def control_edit(rng: random.Random, scene: Scene, question: Question) -> Edited | None:
    """Make a change like `edit_scene`'s to something not asked about, so that the answer stays; None where impossible.

    For actions another glyph is toggled; failing that an object that is not asked about moves, and failing that too
    (two objects, one glyph) an asked object is recoloured.
    """
    change: _Change | None
    if question.category in GROUPS:
        change = _control_object(rng, scene, question)
    elif question.category in _VALUES:
        change = _control_attribute(rng, scene, question)
    elif question.category == "spatial":
        change = _control_spatial(rng, scene, question)
    else:
        change = _control_action(rng, scene, question)
    return _checked(change, question, turned=False)


def _checked(change: _Change | None, question: Question, *, turned: bool) -> Edited | None:
    """Attach the true answer; a change without a single true answer, or with the wrong one, is no edit."""
    answer = None if change is None else true_answer(change.scene, question)
    if change is None or answer is None or (answer != question.answer) != turned:
        return None
    return Edited(change.scene, answer, change.source_term, change.target_term, change.boxes)


# ---- elementary changes


def _with_object(scene: Scene, index: int, thing: SceneObject) -> Scene:
    return replace(scene, objects=(*scene.objects[:index], thing, *scene.objects[index + 1 :]))


def _set_kind(scene: Scene, index: int, kind: str) -> _Change:
    thing = scene.objects[index]
    changed = _with_object(scene, index, replace(thing, kind=kind))
    return _Change(changed, thing.kind, kind, (object_box(scene, index),))


def _set_attribute(scene: Scene, index: int, attribute: str, value: str) -> _Change:
    thing = scene.objects[index]
    recolored = replace(thing, color=value) if attribute == "color" else replace(thing, material=value)
    changed = _with_object(scene, index, recolored)
    return _Change(changed, getattr(thing, attribute), value, (object_box(scene, index),))


def _move(scene: Scene, index: int, cell: Cell, source_term: str, target_term: str) -> _Change:
    changed = _with_object(scene, index, replace(scene.objects[index], row=cell[0], column=cell[1]))
    return _Change(changed, source_term, target_term, (object_box(scene, index), object_box(changed, index)))


def _set_actions(scene: Scene, actions: tuple[Action, ...], source_term: str, target_term: str) -> _Change:
    """Redraw the glyphs; the boxes are those of the glyphs that appeared or vanished."""
    changed = replace(scene, actions=actions)
    boxes = [action_box(scene, j) for j, action in enumerate(scene.actions) if action not in actions]
    boxes += [action_box(changed, j) for j, action in enumerate(actions) if action not in scene.actions]
    return _Change(changed, source_term, target_term, tuple(dict.fromkeys(boxes)))


def _absent_kinds(scene: Scene, group: str | None = None) -> list[str]:
    present = {thing.kind for thing in scene.objects}
    return [kind for kind in (KINDS if group is None else GROUPS[group]) if kind not in present]


def _group_of(kind: str) -> str:
    return next(group for group, kinds in GROUPS.items() if kind in kinds)


def _pair(action: Action) -> frozenset[int]:
    return frozenset((action.agent, action.patient))


# ---- objects


def _edit_object(rng: random.Random, scene: Scene, question: Question) -> _Change:
    if question.subject is not None:
        kinds = _absent_kinds(scene, question.category) or _absent_kinds(scene)
        return _set_kind(scene, question.subject, rng.choice(kinds))
    everything = range(len(scene.objects))
    alike = [i for i in everything if scene.objects[i].kind in GROUPS[question.category]]
    return _set_kind(scene, rng.choice(alike or list(everything)), str(question.value))


def _control_object(rng: random.Random, scene: Scene, question: Question) -> _Change | None:
    barred = {question.value} | (set(GROUPS[question.category]) if question.form == "open" else set())
    options = []
    for i, thing in enumerate(scene.objects):
        if i != question.subject:
            kinds = [kind for kind in _absent_kinds(scene, _group_of(thing.kind)) if kind not in barred]
            options += [(i, kind) for kind in kinds]
    if not options:
        kinds = [kind for kind in _absent_kinds(scene) if kind not in barred]
        options = [(i, kind) for i in range(len(scene.objects)) if i != question.subject for kind in kinds]
    return _set_kind(scene, *rng.choice(options)) if options else None


# ---- attributes


def _edit_attribute(rng: random.Random, scene: Scene, question: Question) -> _Change | None:
    if question.subject is None:
        return None
    value = question.value
    current = getattr(scene.objects[question.subject], question.category)
    if value is None or value == current:
        value = rng.choice([v for v in _VALUES[question.category] if v != current])
    return _set_attribute(scene, question.subject, question.category, value)


def _control_attribute(rng: random.Random, scene: Scene, question: Question) -> _Change:
    index = rng.choice([i for i in range(len(scene.objects)) if i != question.subject])
    return _recolor(rng, scene, index, question.category)


def _recolor(rng: random.Random, scene: Scene, index: int, attribute: str) -> _Change:
    current = getattr(scene.objects[index], attribute)
    return _set_attribute(scene, index, attribute, rng.choice([v for v in _VALUES[attribute] if v != current]))


# ---- spatial relations


def _edit_spatial(rng: random.Random, scene: Scene, question: Question) -> _Change | None:
    """Move the subject to the other side of the other object, or, where it has no place there, the other one."""
    subject, other = question.subject, question.other
    if subject is None or other is None:
        return None
    words = question.alternatives if question.value is None else (question.value, OPPOSITE[question.value])
    before = next((word for word in words if holds(scene, subject, word, other)), None)
    if before is None:
        return None
    axis = 0 if before in ("left", "right") else 1
    for mover, fixed in ((subject, other), (other, subject)):
        cells = reversing_cells(scene, mover, fixed, axis)
        if cells:
            return _move(scene, mover, rng.choice(cells), before, OPPOSITE[before])
    return None


def _control_spatial(rng: random.Random, scene: Scene, question: Question) -> _Change | None:
    """Move an object that is not asked about; without one, move an asked object to where the relation stays."""
    asked = (question.subject, question.other)
    change = _move_unasked(rng, scene, asked)
    if change is not None:
        return change
    options = []
    for index in asked:
        if index is not None and not in_action(scene, index):
            options += [_move(scene, index, cell, "here", "there") for cell in free_cells(scene)]
    options = [option for option in options if true_answer(option.scene, question) == question.answer]
    return rng.choice(options) if options else None


def _move_unasked(rng: random.Random, scene: Scene, asked: tuple[int | None, int | None]) -> _Change | None:
    movers = [i for i in range(len(scene.objects)) if i not in asked and not in_action(scene, i)]
    cells = free_cells(scene)
    return _move(scene, rng.choice(movers), rng.choice(cells), "here", "there") if movers and cells else None


# ---- actions


def _edit_action(rng: random.Random, scene: Scene, question: Question) -> _Change | None:
    """Remove or reverse the asked glyph, or draw it where the layout allows."""
    if question.subject is None or question.other is None or question.value is None:
        return None
    name = question.value
    asked, reverse = Action(name, question.subject, question.other), Action(name, question.other, question.subject)
    if asked in scene.actions:
        if name == "pulling" and rng.random() < 0.5:
            turned = tuple(reverse if action == asked else action for action in scene.actions)
            return _set_actions(scene, turned, name, "pulled by")
        left = tuple(action for action in scene.actions if action != asked)
        return _set_actions(scene, left, name, _WITHOUT_GLYPH[name])
    if asked not in possible_actions(scene.objects):
        return None
    if reverse in scene.actions:
        turned = tuple(asked if action == reverse else action for action in scene.actions)
        return _set_actions(scene, turned, "pulled by", name)
    return _set_actions(scene, (*scene.actions, asked), _WITHOUT_GLYPH[name], name)


def _edit_patient(rng: random.Random, scene: Scene, question: Question) -> _Change | None:
    """Give the action another patient: the rope changes sides, or another object changes places with the patient.

    Where neither is possible the patient becomes another kind.
    """
    agent, patient = question.subject, question.other
    if agent is None or patient is None or question.value is None:
        return None
    true = Action(question.value, agent, patient)
    shown = {_pair(action) for action in scene.actions}
    others = [a for a in possible_actions(scene.objects) if (a.name, a.agent) == (true.name, agent) and a != true]
    others = [action for action in others if _pair(action) not in shown]
    if others:
        new = rng.choice(others)
        actions = tuple(new if action == true else action for action in scene.actions)
        return _set_actions(scene, actions, scene.objects[patient].kind, scene.objects[new.patient].kind)
    idle = [i for i in range(len(scene.objects)) if not in_action(scene, i)]
    if idle and sum(patient in _pair(action) for action in scene.actions) == 1:
        return _exchange(scene, true, rng.choice(idle))
    return _set_kind(scene, patient, rng.choice(_absent_kinds(scene)))


def _exchange(scene: Scene, true: Action, bystander: int) -> _Change:
    """Let an idle object and the action's patient change places; the glyph stays where it is."""
    a, b = scene.objects[true.patient], scene.objects[bystander]
    changed = _with_object(scene, true.patient, replace(a, row=b.row, column=b.column))
    changed = _with_object(changed, bystander, replace(b, row=a.row, column=a.column))
    new = Action(true.name, true.agent, bystander)
    changed = replace(changed, actions=tuple(new if action == true else action for action in scene.actions))
    return _Change(changed, a.kind, b.kind, (object_box(scene, true.patient), object_box(scene, bystander)))


def _control_action(rng: random.Random, scene: Scene, question: Question) -> _Change | None:
    asked = (question.subject, question.other)
    shown = {_pair(action) for action in scene.actions}
    options = []
    for action in scene.actions:
        if _pair(action) != frozenset(asked):
            left = tuple(other for other in scene.actions if other != action)
            options.append(_set_actions(scene, left, action.name, _WITHOUT_GLYPH[action.name]))
    for action in possible_actions(scene.objects):
        if _pair(action) not in shown and _pair(action) != frozenset(asked):
            options.append(_set_actions(scene, (*scene.actions, action), _WITHOUT_GLYPH[action.name], action.name))
    options = [option for option in options if true_answer(option.scene, question) == question.answer]
    if options:
        return rng.choice(options)
    indices = [i for i in asked if i is not None]
    return _move_unasked(rng, scene, asked) or _recolor(rng, scene, rng.choice(indices), "color")
