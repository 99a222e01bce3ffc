"""Questions about a scene: seven categories on three levels, yes/no and open, with their true answers.

Yes/no questions are balanced by the caller through `want`; the choice of what to ask is made so that neither the words
of the question nor easy facts about the scene (which objects take part in an action, which are neighbours) tell the
answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from vseam_plugins.benchmarks.scenes.sprites import COLORS, GROUPS, KINDS, MATERIALS
from vseam_plugins.benchmarks.scenes.world import ACTIONS, GRID, Action, Cell, Scene, possible_actions

CATEGORIES = ("animal", "vehicle", "indoor", "color", "material", "spatial", "action")
LEVELS: dict[str, str] = {
    "animal": "object", "vehicle": "object", "indoor": "object",
    "color": "attribute", "material": "attribute", "spatial": "relation", "action": "relation",
}  # fmt: skip
FORMS = ("yes_no", "open")
RELATIONS: dict[str, str] = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
OPPOSITE: dict[str, str] = {"left": "right", "right": "left", "above": "below", "below": "above"}
YES_NO = ("Yes", "No")

_AXES = (("left", "right"), ("above", "below"))
_GROUP_NAMES = {"animal": "animal", "vehicle": "vehicle", "indoor": "indoor thing"}
_VALUES = {"color": COLORS, "material": MATERIALS}
_ATTRIBUTE_NAMES = {"color": "color", "material": "texture"}
_UNEDITABLE_SHARE = 0.04  # share of spatial questions about pairs whose relation no single edit can reverse
_IMPOSSIBLE_SHARE = 0.11  # share of false actions that no single glyph can make true, such as a wrong, distant partner
_RESEMBLANCE_WEIGHTS = (0.03, 0.12, 0.5, 0.35)  # keeps "takes part in an action" from telling a false action

Role = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its true answer.

    `alternatives` are all answers the form allows, the true one included. `roles` are character spans (start, end,
    role) of the words that carry meaning, role being object, attribute, relation or action. `subject` and `other` are
    indices of the objects asked about, in an open question also of the one that answers it (None where there is none).
    `value` is what is asked for: the kind, colour, material, relation word or action name; None in open questions
    other than action ones.
    """

    text: str
    answer: str
    alternatives: tuple[str, ...]
    category: str
    form: str
    roles: tuple[Role, ...]
    subject: int | None
    other: int | None
    value: str | None


def ask(rng: random.Random, scene: Scene, category: str, form: str, want: str | None = None) -> Question | None:
    """A random question of a category ("color", ...) and form ("yes_no", "open"); None if the scene supports none.

    `want` ("Yes", "No") fixes the answer of a yes/no question; None draws it. Raises ValueError for unknown arguments.
    """
    if category not in CATEGORIES or form not in FORMS or want not in (*YES_NO, None):
        raise ValueError(f"unknown category, form or answer: {category!r}, {form!r}, {want!r}")
    if form == "open":
        if category in GROUPS:
            return _open_object(scene, category)
        if category in _VALUES:
            return _open_attribute(rng, scene, category)
        return _open_spatial(rng, scene) if category == "spatial" else _open_action(rng, scene)
    yes = (rng.random() < 0.5) if want is None else want == "Yes"
    if category in GROUPS:
        return _is_there(rng, scene, category, yes)
    if category in _VALUES:
        return _is_attribute(rng, scene, category, yes)
    return _is_spatial(rng, scene, yes) if category == "spatial" else _is_action(rng, scene, yes)


def true_answer(scene: Scene, question: Question) -> str | None:
    """The right answer to a question in this scene, recomputed; None where an open question has no single answer.

    Meant for scenes that an edit made from the one asked about: object indices must mean the same objects.
    """
    if question.category in GROUPS:
        kinds = [thing.kind for thing in scene.objects]
        if question.form == "yes_no":
            return _truth(question.value in kinds)
        return _only([kind for kind in kinds if kind in GROUPS[question.category]])
    subject, other = question.subject, question.other
    assert subject is not None  # only questions about objects' existence name no object
    if question.category in _VALUES:
        value: str = getattr(scene.objects[subject], question.category)
        return value if question.form == "open" else _truth(value == question.value)
    if question.category == "spatial":
        assert other is not None
        if question.form == "yes_no":
            return _truth(holds(scene, subject, str(question.value), other))
        return _only([word for word in question.alternatives if holds(scene, subject, word, other)])
    acts = [action for action in scene.actions if (action.name, action.agent) == (question.value, subject)]
    if question.form == "yes_no":
        return _truth(any(action.patient == other for action in acts))
    return _only([scene.objects[action.patient].kind for action in acts])


def crossed(scene: Scene, question: Question) -> Question:
    """The same yes/no question in the form of another level: objects by "Is the …?", attributes and relations by "Is there a …?".

    In this world both forms ask the same, since no kind of object occurs twice. Raises ValueError for an open question.
    """
    if question.form == "open":
        raise ValueError(f"only yes/no questions have another level's form: {question.text!r}")
    kinds = [None if index is None else scene.objects[index].kind for index in (question.subject, question.other)]
    value = str(question.value)
    parts: list[tuple[str, str | None]]
    if question.category in GROUPS:
        parts = [("Is the", None), (value, "object")]
    elif question.category in _VALUES:
        parts = [("Is there an" if value[0] in "aeiou" else "Is there a", None), (value, "attribute"), (str(kinds[0]), "object")]
    else:
        role = "action" if question.category == "action" else "relation"
        relation = (RELATIONS.get(value, value), role)
        parts = [("Is there a", None), (str(kinds[0]), "object"), relation, ("the", None), (str(kinds[1]), "object")]
    parts.append(("in this picture", None))
    same = question
    return _build(parts, same.answer, YES_NO, same.category, subject=same.subject, other=same.other, value=same.value)


def _only(found: list[str]) -> str | None:
    return found[0] if len(found) == 1 else None


def _build(
    parts: Iterable[tuple[str, str | None]],
    answer: str,
    alternatives: tuple[str, ...],
    category: str,
    *,
    subject: int | None = None,
    other: int | None = None,
    value: str | None = None,
) -> Question:
    """Join (text, role) parts with spaces and the question mark, recording the span of every part with a role."""
    text, roles = "", []
    for words, role in parts:
        text += " " if text else ""
        if role is not None:
            roles.append((len(text), len(text) + len(words), role))
        text += words
    form = "yes_no" if alternatives == YES_NO else "open"
    return Question(
        text=text + "?",
        answer=answer,
        alternatives=alternatives,
        category=category,
        form=form,
        roles=tuple(roles),
        subject=subject,
        other=other,
        value=value,
    )


def _truth(yes: bool) -> str:
    return "Yes" if yes else "No"


# ---- objects


def _is_there(rng: random.Random, scene: Scene, group: str, yes: bool) -> Question | None:
    present = {thing.kind: i for i, thing in enumerate(scene.objects)}
    kinds = [kind for kind in GROUPS[group] if (kind in present) == yes]
    if not kinds:
        return None
    kind = rng.choice(kinds)
    parts = (("Is there a", None), (kind, "object"), ("in this picture", None))
    return _build(parts, _truth(yes), YES_NO, group, subject=present.get(kind), value=kind)


def _open_object(scene: Scene, group: str) -> Question | None:
    members = [i for i, thing in enumerate(scene.objects) if thing.kind in GROUPS[group]]
    if len(members) != 1:
        return None
    parts = (("Which", None), (_GROUP_NAMES[group], "object"), ("is in this picture", None))
    return _build(parts, scene.objects[members[0]].kind, GROUPS[group], group, subject=members[0])


# ---- attributes


def _is_attribute(rng: random.Random, scene: Scene, category: str, yes: bool) -> Question:
    subject = rng.randrange(len(scene.objects))
    thing = scene.objects[subject]
    value: str = getattr(thing, category)
    if not yes:
        elsewhere = sorted({getattr(o, category) for o in scene.objects} - {value})
        absent = [v for v in _VALUES[category] if v != value]
        value = rng.choice(elsewhere) if elsewhere and rng.random() < 0.7 else rng.choice(absent)
    parts = (("Is the", None), (thing.kind, "object"), (value, "attribute"))
    return _build(parts, _truth(yes), YES_NO, category, subject=subject, value=value)


def _open_attribute(rng: random.Random, scene: Scene, category: str) -> Question:
    subject = rng.randrange(len(scene.objects))
    thing = scene.objects[subject]
    parts = (("What", None), (_ATTRIBUTE_NAMES[category], "attribute"), ("is the", None), (thing.kind, "object"))
    return _build(parts, getattr(thing, category), _VALUES[category], category, subject=subject)


# ---- spatial relations


def holds(scene: Scene, subject: int, word: str, other: int) -> bool:
    """Whether the subject is left of, right of, above or below the other object, strictly, by column or row."""
    a, b = scene.objects[subject], scene.objects[other]
    first, second = (a.column, b.column) if word in ("left", "right") else (a.row, b.row)
    return first < second if word in ("left", "above") else first > second


def in_action(scene: Scene, index: int) -> bool:
    """Whether an object pulls, is pulled, carries or is carried."""
    return any(index in (action.agent, action.patient) for action in scene.actions)


def free_cells(scene: Scene) -> list[Cell]:
    """Cells (row, column) without an object, in reading order."""
    taken = {(thing.row, thing.column) for thing in scene.objects}
    return [(row, column) for row in range(GRID) for column in range(GRID) if (row, column) not in taken]


def reversing_cells(scene: Scene, mover: int, fixed: int, axis: int) -> list[Cell]:
    """Free cells that would put `mover` strictly on the other side of `fixed` (axis 0: columns, 1: rows).

    Empty if the mover takes part in an action, or the two are not apart on this axis.
    """
    if in_action(scene, mover):
        return []
    a, b = scene.objects[mover], scene.objects[fixed]
    first, second = (a.column, b.column) if axis == 0 else (a.row, b.row)
    if first == second:
        return []
    ahead = 1 if first < second else -1
    return [cell for cell in free_cells(scene) if (cell[1 - axis] - second) * ahead > 0]


def _spatial_pair(rng: random.Random, scene: Scene) -> tuple[int, int, int] | None:
    """A pair of objects and an axis on which they are apart, nearly always one whose relation an edit can reverse."""
    places = [(thing.column, thing.row) for thing in scene.objects]
    active = {index for action in scene.actions for index in (action.agent, action.patient)}
    free = free_cells(scene)
    free_values = ({column for _, column in free}, {row for row, _ in free})

    def turns(mover: int, fixed: int, axis: int) -> bool:
        ahead = places[fixed][axis] - places[mover][axis]
        return mover not in active and any((v - places[fixed][axis]) * ahead > 0 for v in free_values[axis])

    editable: list[tuple[int, int, int]] = []
    rest: list[tuple[int, int, int]] = []
    for i in range(len(places)):
        for k in range(i + 1, len(places)):
            for axis in (0, 1):
                if places[i][axis] != places[k][axis]:
                    (editable if turns(i, k, axis) or turns(k, i, axis) else rest).append((i, k, axis))
    if rest and (not editable or rng.random() < _UNEDITABLE_SHARE):
        return rng.choice(rest)
    return rng.choice(editable) if editable else None


def _is_spatial(rng: random.Random, scene: Scene, yes: bool) -> Question | None:
    pair = _spatial_pair(rng, scene)
    if pair is None:
        return None
    subject, other, axis = pair
    word = rng.choice(_AXES[axis])
    if holds(scene, subject, word, other) != yes:
        subject, other = other, subject
    a, b = scene.objects[subject].kind, scene.objects[other].kind
    parts = (("Is the", None), (a, "object"), (RELATIONS[word], "relation"), ("the", None), (b, "object"))
    return _build(parts, _truth(yes), YES_NO, "spatial", subject=subject, other=other, value=word)


def _open_spatial(rng: random.Random, scene: Scene) -> Question | None:
    pair = _spatial_pair(rng, scene)
    if pair is None:
        return None
    subject, other, axis = pair if rng.random() < 0.5 else (pair[1], pair[0], pair[2])
    words = _AXES[axis]
    answer = words[0] if holds(scene, subject, words[0], other) else words[1]
    phrase = ("to the left or right of", "above or below")[axis]
    a, b = scene.objects[subject].kind, scene.objects[other].kind
    parts = (("Is the", None), (a, "object"), (phrase, "relation"), ("the", None), (b, "object"))
    return _build(parts, answer, words, "spatial", subject=subject, other=other)


# ---- actions


def _is_action(rng: random.Random, scene: Scene, yes: bool) -> Question | None:
    if yes:
        if not scene.actions:
            return None
        asked = rng.choice(scene.actions)
    else:
        found = _false_action(rng, scene)
        if found is None:
            return None
        asked = found
    return action_question(scene, asked)


def action_question(scene: Scene, asked: Action) -> Question:
    """The yes/no question whether an action takes place in a scene."""
    a, b = scene.objects[asked.agent].kind, scene.objects[asked.patient].kind
    parts = (("Is the", None), (a, "object"), (asked.name, "action"), ("the", None), (b, "object"))
    truth = _truth(asked in scene.actions)
    return _build(parts, truth, YES_NO, "action", subject=asked.agent, other=asked.patient, value=asked.name)


def _false_action(rng: random.Random, scene: Scene) -> Action | None:
    """An action that does not take place, nearly always one that a single glyph would make true."""
    possible = [action for action in possible_actions(scene.objects) if action not in scene.actions]
    shown = sorted({action.name for action in scene.actions})
    name = rng.choice([action.name for action in scene.actions]) if shown else rng.choice(ACTIONS)
    near = [action for action in possible if action.name == name]
    far = _impossible_actions(scene, name)
    if far and (not near or rng.random() < _IMPOSSIBLE_SHARE):
        if not shown and possible:
            return rng.choice(possible)
        same = [action for action in far if _resemblance(scene, action) == 2]
        return rng.choice(same if same and rng.random() < 0.7 else far)
    if not near:
        return None
    classes: dict[int, list[Action]] = {}
    for action in near:
        classes.setdefault(_resemblance(scene, action), []).append(action)
    levels = sorted(classes)
    return rng.choice(classes[rng.choices(levels, [_RESEMBLANCE_WEIGHTS[level] for level in levels])[0]])


def _resemblance(scene: Scene, asked: Action) -> int:
    """How much a false action is like a true one of its name: 3 reversed, 2 same agent or patient, 1 shares one, 0."""
    true = [action for action in scene.actions if action.name == asked.name]
    if any((action.agent, action.patient) == (asked.patient, asked.agent) for action in true):
        return 3
    if any(action.agent == asked.agent or action.patient == asked.patient for action in true):
        return 2
    return int(any({action.agent, action.patient} & {asked.agent, asked.patient} for action in true))


def _impossible_actions(scene: Scene, name: str) -> list[Action]:
    """False actions that no glyph could make true: wrong order, wrong partner, or the other action of a true pair."""
    feasible = set(possible_actions(scene.objects))
    found = []
    for true in scene.actions:
        partners = [i for i in range(len(scene.objects)) if i not in (true.agent, true.patient)]
        wrong = [(true.patient, true.agent), (true.agent, true.patient)]
        wrong += [(true.agent, i) for i in partners] + [(i, true.patient) for i in partners]
        found += [Action(name, agent, patient) for agent, patient in wrong]
    return [action for action in found if action not in feasible]


def _open_action(rng: random.Random, scene: Scene) -> Question | None:
    acts = [(action.name, action.agent) for action in scene.actions]
    single = [action for action in scene.actions if acts.count((action.name, action.agent)) == 1]
    if not single:
        return None
    true = rng.choice(single)
    agent, patient = scene.objects[true.agent].kind, scene.objects[true.patient].kind
    parts = (("What is the", None), (agent, "object"), (true.name, "action"))
    answers = tuple(kind for kind in KINDS if kind != agent)
    return _build(parts, patient, answers, "action", subject=true.agent, other=true.patient, value=true.name)
