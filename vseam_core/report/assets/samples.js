// The sample browser: every measured pair and every skipped sample, filtered, sorted, and walked through by keys.

import { distinct, element, selection, shown } from "./dom.js";
import { figure, fileName } from "./figures.js";
import { imageRow } from "./images.js";
import { sampleTraces } from "./traces.js";

const LINE = 30;
const OUTCOMES = { "": "all", right: "right on both images", wrong: "wrong on the clean image", missed: "right, then wrong on the edited one", flipped: "answer changes as it should", same: "answer stays",
  skipped: "skipped" };

function entriesOf(page, model) {
  const found = page.content.pairs.map((pair, place) => {
    const clean = page.content.samples[pair.clean];
    const [before, after] = [page.answer(model, pair.clean), page.answer(model, pair.edited)];
    return { place, id: clean.id, label: page.label(clean.dataset), question: clean.question, gold: clean.gold, edited: page.content.samples[pair.edited].gold, kind: pair.kind, pool: clean.pool,
      edit: `${pair.source} → ${pair.target}`, before, after, image: clean.image ? 1 : 0, difference: before && after ? before.logitDiff - after.logitDiff : NaN, outcome: outcomes(before, after) };
  }).filter((entry) => entry.before || entry.after);
  const skips = page.content.skips.filter((skip) => skip.model === model).map((skip) => ({ place: null, id: skip.id, label: skip.label, question: skip.reason, kind: "skipped", pool: "", edit: skip.method,
    before: null, after: null, difference: NaN, outcome: ["skipped"], gold: "", edited: "", image: 0 }));
  return [...found.sort((one, two) => two.image - one.image), ...skips];
}

function outcomes(before, after) {
  const list = [];
  if (before && !before.correct) list.push("wrong");
  if (before?.correct && after?.correct) list.push("right");
  if (before?.correct && after && !after.correct) list.push("missed");
  if (before && after) list.push(before.text === after.text ? "same" : before.correct && after.correct ? "flipped" : "");
  return list.filter(Boolean);
}

const SORTS = {
  order: ["as measured", null],
  category: ["category", (entry) => entry.label],
  question: ["question", (entry) => entry.question],
  before: ["log odds before, low first", (entry) => entry.before?.logitDiff ?? Infinity],
  change: ["change by the edit, large first", (entry) => (Number.isFinite(entry.difference) ? -Math.abs(entry.difference) : Infinity)],
};

/** The view of all samples; null where none was measured. */
export function samplesView(page) {
  if (!page.content.pairs.length && !page.content.skips.length) return null;
  const models = page.content.models;
  const state = { model: models[0], category: "", outcome: "", kind: "", text: "", sort: "order", chosen: 0 };
  let all = entriesOf(page, state.model), shownEntries = all;
  const count = element("span", { class: "note", role: "status" });
  const scroll = element("div", { class: "list", tabindex: 0, role: "listbox", "aria-label": "Samples" });
  const room = element("div", { class: "room" });
  scroll.append(room);
  const detail = element("div", { class: "detail", "aria-live": "polite" });
  const search = element("input", { type: "search", placeholder: "words in question or answer", oninput: () => change("text")(search.value) });

  const paint = () => {
    const first = Math.max(0, Math.floor(scroll.scrollTop / LINE) - 5), last = Math.min(shownEntries.length, first + Math.ceil((scroll.clientHeight || 480) / LINE) + 10);
    room.style.height = `${shownEntries.length * LINE}px`;
    room.replaceChildren(...shownEntries.slice(first, last).map((entry, index) => line(entry, first + index)));
  };
  const line = (entry, place) => element("div", { class: "line", role: "option", "aria-selected": String(place === state.chosen), style: { top: `${place * LINE}px` }, onclick: () => choose(place) },
    element("span", { class: "category" }, entry.label), element("span", { class: "question" }, entry.question),
    element("span", { class: "outcome" }, entry.kind === "skipped" ? "skipped" : `${entry.before?.text ?? "–"} → ${entry.after?.text ?? "–"}${entry.outcome.includes("wrong") || entry.outcome.includes("missed") ? " ✗" : ""}`));
  const choose = (place, scrolled = false) => {
    if (!shownEntries.length) return detail.replaceChildren(element("p", { class: "note" }, "No sample is like this."));
    state.chosen = Math.min(Math.max(place, 0), shownEntries.length - 1);
    if (scrolled) {
      const top = state.chosen * LINE;
      if (top < scroll.scrollTop) scroll.scrollTop = top;
      else if (top + LINE > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = top + LINE - scroll.clientHeight;
    }
    paint();
    detail.replaceChildren(detailOf(page, state.model, shownEntries[state.chosen], (turn) => choose(state.chosen + turn, true)));
  };
  const apply = () => {
    const words = state.text.toLowerCase();
    shownEntries = all.filter((entry) => (!state.category || entry.label === state.category) && (!state.outcome || entry.outcome.includes(state.outcome))
      && (!state.kind || entry.kind === state.kind) && (!words || `${entry.question} ${entry.before?.text ?? ""} ${entry.after?.text ?? ""} ${entry.id}`.toLowerCase().includes(words)));
    const key = SORTS[state.sort][1];
    if (key) shownEntries = [...shownEntries].sort((one, two) => (key(one) < key(two) ? -1 : key(one) > key(two) ? 1 : 0));
    count.textContent = `${shownEntries.length} of ${all.length}`;
    scroll.scrollTop = 0;
    choose(0);
  };
  const change = (name) => (value) => {
    state[name] = value;
    if (name === "model") all = entriesOf(page, value);
    if (name !== "text") controls.replaceChildren(...selectors());
    apply();
  };
  const selectors = () => [
    models.length > 1 ? selection("Model", models.map((name) => [name, name]), state.model, change("model")) : null,
    selection("Category", [["", "all"], ...distinct(all.map((entry) => entry.label)).map((name) => [name, name])], state.category, change("category")),
    selection("Answers", Object.entries(OUTCOMES), state.outcome, change("outcome")),
    selection("Kind", [["", "all"], ...distinct(all.map((entry) => entry.kind)).map((name) => [name, name])], state.kind, change("kind")),
    selection("Sort by", Object.entries(SORTS).map(([name, [words]]) => [name, words]), state.sort, change("sort")),
    element("label", { class: "choice" }, element("span", null, "Search"), search), count].filter(Boolean);
  const controls = element("div", { class: "controls" }, selectors());
  scroll.addEventListener("scroll", () => requestAnimationFrame(paint));
  scroll.addEventListener("keydown", (event) => {
    const turn = { ArrowDown: 1, j: 1, ArrowRight: 1, ArrowUp: -1, k: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (!turn) return;
    event.preventDefault();
    choose(state.chosen + turn, true);
  });
  apply();
  const frame = figure({ title: "", body: element("div", null, controls, element("div", { class: "browser" }, scroll, detail)), name: () => fileName("samples", state.model),
    caption: "Keys: ↓ or j and ↑ or k walk through the samples while the list has the focus. Log odds are of the gold answer against its competitor.",
    rows: () => [["id", "category", "pool", "kind", "edit", "question", "gold", "gold edited", "answer", "answer edited", "log odds", "log odds edited"], ...shownEntries.map((entry) =>
      [entry.id, entry.label, entry.pool, entry.kind, entry.edit, entry.question, entry.gold, entry.edited, entry.before?.text ?? null, entry.after?.text ?? null, entry.before?.logitDiff ?? null, entry.after?.logitDiff ?? null])] });
  frame.querySelector(".save-svg").remove();
  return frame;
}

function detailOf(page, model, entry, step) {
  const walk = element("p", { class: "stepper" }, element("button", { type: "button", class: "previous", onclick: () => step(-1) }, "← previous"), " ",
    element("button", { type: "button", class: "next", onclick: () => step(1) }, "next →"));
  if (entry.place === null) return element("div", null, walk, element("h3", null, "Skipped"), element("p", null, entry.question), element("p", { class: "note" }, `${entry.id} (${entry.edit})`));
  const answers = page.content.models.map((name) => {
    const pair = page.content.pairs[entry.place];
    const [before, after] = [page.answer(name, pair.clean), page.answer(name, pair.edited)];
    const words = (answer) => (answer ? `${answer.text}${answer.correct ? "" : " ✗"} (${shown(answer.logitDiff, 3)})` : "–");
    return before || after ? element("tr", null, element("th", { scope: "row" }, name), element("td", null, words(before)), element("td", null, words(after))) : null;
  });
  return element("div", null, walk, element("h3", null, entry.question), imageRow(page, entry.place, { model }),
    element("div", { class: "wide" },
      element("table", null, element("thead", null, element("tr", null, ["", `clean (gold ${entry.gold})`, `edited (gold ${entry.edited})`].map((words) => element("th", { scope: "col" }, words)))),
        element("tbody", null, answers))),
    tracesOf(page, entry.place), headsOf(page, page.content.pairs[entry.place].clean),
    element("p", { class: "note" }, `${entry.id}; ${entry.kind === "edit" ? "edit" : `control edit: ${entry.kind}`} ${entry.edit}, ${entry.pool} pool`));
}

// The heads whose replacement changes most on a sample, by each scan that has it, and the way to its map.
function headsOf(page, sample) {
  const rows = [];
  for (const { effects, model, dataset, words, heads, stack, unit } of page.content.scans) {
    const row = effects ? page.numbers(effects.sample).indexOf(sample) : -1;
    if (row < 0) continue;
    const size = effects.values.shape[1] * effects.values.shape[2], values = page.numbers(effects.values).subarray(row * size, (row + 1) * size);
    const strongest = Array.from(values.keys()).filter((head) => Number.isFinite(values[head])).sort((one, two) => Math.abs(values[two]) - Math.abs(values[one])).slice(0, 3);
    const name = (head) => `${stack === "decoder" ? "" : `${stack}:`}L${Math.floor(head / heads)}H${head % heads}`;
    rows.push(element("li", null, `${model}, heads replaced by ${words}: `, strongest.map((head, place) => [place ? ", " : "", element("a", { href: `#heads?${new URLSearchParams({ model, dataset,
      head: `${Math.floor(head / heads)}.${head % heads}` })}` }, name(head)), ` ${shown(values[head], 3)}`]), ` ${unit}`));
  }
  return rows.length ? element("ul", { class: "sample-traces" }, rows) : null;
}

// The strongest effect of each trace of a pair, and the way to its map.
function tracesOf(page, place) {
  const rows = [];
  for (const trace of page.content.traces) {
    const [site, direction] = [Object.keys(trace.sites)[0], trace.directions[0]];
    const found = sampleTraces(page, trace, site, direction).find((part) => part.pair === place);
    if (!found) continue;
    const best = found.values.reduce((most, value, index) => (Math.abs(value) > Math.abs(found.values[most]) ? index : most), 0);
    const width = found.axis.columns.length;
    const layer = found.axis.layers[Math.floor(best / width)];
    rows.push(element("li", null, `${trace.model}, ${trace.tracer}: ${trace.sites[site]}: strongest ${shown(found.values[best], 3)} ${trace.unit} ${layer < 0 ? "before the first layer" : `in layer ${layer}`} at ${trace.columns[found.axis.roles[best % width]] ?? found.axis.roles[best % width]} `,
      element("a", { href: `#traces?${new URLSearchParams({ model: trace.model, dataset: trace.dataset, tracer: trace.tracer, pair: place })}` }, "map")));
  }
  return rows.length ? element("ul", { class: "sample-traces" }, rows) : null;
}
