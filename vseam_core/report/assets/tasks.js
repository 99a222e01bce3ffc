// What views of one model on one task have in common: which of them is shown.

import { distinct, element, selection } from "./dom.js";

/** Controls that choose among entries with a `model` and a `dataset`; `draw(entry)` is called with what is chosen, at first too. */
export function taskChooser(page, entries, draw) {
  const state = { model: entries[0].model, dataset: entries[0].dataset };
  const controls = element("div", { class: "controls" });
  const here = () => entries.filter((entry) => entry.model === state.model);
  const update = () => {
    if (!here().some((entry) => entry.dataset === state.dataset)) state.dataset = here()[0].dataset;
    controls.replaceChildren(
      selection("Model", distinct(entries.map((entry) => entry.model)).map((name) => [name, name]), state.model, (value) => { state.model = value; update(); }),
      selection("Task", distinct(here().map((entry) => entry.dataset)).map((name) => [name, page.label(name)]), state.dataset, (value) => { state.dataset = value; update(); }));
    draw(here().filter((entry) => entry.dataset === state.dataset), state);
  };
  page.onSelect((choice) => {
    const wanted = { model: choice.model ?? state.model, dataset: choice.dataset ?? state.dataset };
    if (!entries.some((entry) => entry.model === wanted.model && entry.dataset === wanted.dataset)) return;
    if (wanted.model === state.model && wanted.dataset === state.dataset) return;
    Object.assign(state, wanted);
    update();
  });
  return { controls, update };
}
