// Heads that tasks share: one matrix per model and sign; a click on a cell says which heads the two tasks have in common.

import { cellGrid, colourBar } from "./grid.js";
import { element, selection, shown } from "./dom.js";
import { figure, fileName } from "./figures.js";

/** The view of overlaps; null without any. */
export function sharedView(page) {
  const all = page.content.shared;
  if (!all.length) return null;
  const state = { place: 0, pair: null };
  const controls = element("div", { class: "controls" }), map = element("div"), panel = element("aside", { class: "panel", "aria-live": "polite" });
  const draw = () => {
    const found = all[state.place];
    controls.replaceChildren(selection("Model and sign", all.map((entry, index) => [String(index), `${entry.model}, ${entry.sign} heads, k = ${entry.k}`]), String(state.place), (value) => {
      Object.assign(state, { place: Number(value), pair: null });
      draw();
    }));
    const labels = found.tasks.map((task) => task.label);
    const pairOf = (row, column) => found.rows.find((entry) => [entry.first, entry.second].every((name) => [found.tasks[row].dataset, found.tasks[column].dataset].includes(name)) && row !== column);
    const choose = (row, column) => {
      map.firstElementChild.pick([row, column]);
      panel.replaceChildren(pairPanel(page, found, found.tasks[row], found.tasks[column], pairOf(row, column)));
    };
    map.replaceChildren(cellGrid({
      rows: labels, columns: labels, cell: [84, 44], least: 58, sequential: true, most: 900,
      share: (row, column) => { const pair = pairOf(row, column); return row === column ? NaN : pair?.overlap == null ? NaN : pair.overlap / found.k; },
      text: (row, column) => {
        if (row === column) return "";
        const pair = pairOf(row, column);
        return pair?.overlap == null ? "–" : [`${pair.overlap} of ${found.k}${pair.q_value < 0.05 ? " *" : ""}`, `chance ${shown(pair.expected, 2)}`];
      },
      lines: (row, column) => {
        const pair = pairOf(row, column);
        if (row === column) return [labels[row], `its heads: ${(found.heads[found.tasks[row].dataset] ?? []).join(", ") || "none passes"}`];
        if (pair?.overlap == null) return [`${labels[row]} and ${labels[column]}`, pair?.reason ?? "not compared"];
        return [`${labels[row]} and ${labels[column]}: ${pair.overlap} of ${found.k}`, `chance ${shown(pair.expected, 2)}, ceiling ${shown(pair.ceiling, 3)}`, `p = ${shown(pair.p_value, 2)}, q = ${shown(pair.q_value, 2)}`, `if heads differed in general importance only: p = ${shown(pair.p_importance, 2)}`];
      },
      choose, label: `Shared heads of ${found.model}, ${found.sign}`,
    }), colourBar(["0", `${found.k} of ${found.k}`], true));
    panel.replaceChildren(element("p", { class: "note" }, "Choose two tasks to see which heads they share."), levelWords(found));
    frame.setCaption(`${found.model}: how many of the ${found.k} strongest ${found.sign} heads that pass are the same for two tasks. * q < 0.05 against heads permuted within their layers. ` +
      `–: a task has fewer heads that pass; the pair is not compared.${found.level?.p_value == null ? "" : ` ${found.forms}`}`);
  };
  const left = element("div", null, controls, map);
  const frame = figure({ title: "", body: element("div", { class: "split" }, left, panel), under: left, name: () => fileName("shared-heads", all[state.place].model, all[state.place].sign),
    rows: () => [["model", "sign", "k", "first", "second", "overlap", "expected", "ceiling", "jaccard", "p", "q", "p_importance", "heads", "reason"], ...all.flatMap((entry) => entry.rows.map((row) =>
      [entry.model, entry.sign, entry.k, row.first, row.second, row.overlap, row.expected, row.ceiling, row.jaccard, row.p_value, row.q_value, row.p_importance, row.both.join(" "), row.reason]))] });
  page.onSelect((choice) => {
    const place = all.findIndex((entry) => entry.model === choice.model);
    if (choice.model && place >= 0 && all[state.place].model !== choice.model) {
      Object.assign(state, { place, pair: null });
      draw();
    }
  });
  addEventListener("themechange", draw);
  draw();
  return frame;
}

function levelWords(found) {
  const level = found.level;
  if (!level) return null;
  return element("p", null, level.p_value === null ? `Levels: ${level.reason}.` :
    `Tasks of one level share ${shown(level.within, 3)}, of different levels ${shown(level.across, 3)} of ${found.k} (p = ${shown(level.p_value, 2)}, ${level.groupings} ways to group ${level.tasks} tasks).`);
}

function pairPanel(page, found, one, two, pair) {
  const heads = (task) => found.heads[task.dataset] ?? [];
  const link = (task, head) => {
    const [, layer, index] = /L(\d+)H(\d+)$/.exec(head);
    return element("a", { href: `#heads?${new URLSearchParams({ model: found.model, dataset: task.dataset, head: `${layer}.${index}` })}` }, head);
  };
  const list = (task) => element("p", null, `${task.label}: `, heads(task).length ? heads(task).flatMap((head, index) => [index ? ", " : "",
    pair?.both.includes(head) ? element("strong", null, link(task, head)) : link(task, head)]) : "no head passes");
  if (one === two) return element("div", null, element("h4", null, one.label), list(one));
  return element("div", null, element("h4", null, `${one.label} and ${two.label}`), list(one), list(two),
    element("p", null, pair?.overlap == null ? pair?.reason ?? "" : `In common (bold): ${pair.both.join(", ") || "none"}. Chance ${shown(pair.expected, 2)}, ceiling ${shown(pair.ceiling, 3)}, ` +
      `p = ${shown(pair.p_value, 2)}, q = ${shown(pair.q_value, 2)}, if heads differed in general importance only p = ${shown(pair.p_importance, 2)}.`));
}
