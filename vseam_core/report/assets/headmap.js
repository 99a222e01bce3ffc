// The head map: layers × heads of one scan, every model, category and operation by a selector; a click shows all about a head.

import { cellGrid, colourBar } from "./grid.js";
import { cellWords, decimalsFor, distinct, element, largest, selection, shown, signed, withInterval } from "./dom.js";
import { divergingColour, shareOf } from "./colours.js";
import { figure, fileName } from "./figures.js";
import { headPanel } from "./headpanel.js";

const MANY_HEADS = 256;
const NAMED_HEADS = 12;
const SIDES = {
  support: { words: "positive heads (all sampled questions)", value: "support", low: "low_support", high: "high_support", q: "q_positive",
    claim: "claim_positive", other: "claim_suppressor", sign: "positive", n: "n_sampled", turn: 1 },
  wrong: { words: "negative heads (wrong answers)", value: "mean_wrong", low: "low_wrong", high: "high_wrong", q: "q_negative",
    claim: "claim_negative", other: null, sign: "negative", n: "n_wrong", turn: -1 },
  difference: { words: "difference between the studies", value: "difference", low: "low_difference", high: "high_difference", q: "q_difference",
    claim: "differs", other: null, sign: "difference", n: "n", turn: 1, eitherWay: true },
  positive: { words: "published score, positive", value: "positive", n: "n_correct", turn: 1 },
  negative: { words: "published score, negative", value: "negative", n: "n_wrong", turn: 1 },
  signed: { words: "published score, signed", value: "signed", n: "n", turn: 1 },
};

/** The columns of a scan by name, and what a reader is told about its heads. */
export class HeadScan {
  constructor(page, index) {
    this.page = page;
    this.index = index;
    this.about = page.content.scans[index];
    this.size = this.about.layers * this.about.heads;
    this.sides = Object.keys(SIDES).filter((side) => this.about.columns.includes(SIDES[side].value));
  }

  column(name) {
    const place = this.about.columns.indexOf(name);
    return place < 0 ? null : this.page.numbers(this.about.values).subarray(place * this.size, (place + 1) * this.size);
  }

  name(head) {
    const text = `L${Math.floor(head / this.about.heads)}H${head % this.about.heads}`;
    return this.about.stack === "decoder" ? text : `${this.about.stack}:${text}`;
  }

  /** Heads from the strongest of a side to the weakest; a difference is as strong below 0 as above. */
  ranking(side) {
    const { value, turn, eitherWay } = SIDES[side];
    const values = this.column(value), strength = (head) => (eitherWay ? Math.abs(values[head]) : turn * values[head]);
    return Array.from(values.keys()).filter((head) => Number.isFinite(values[head])).sort((one, two) => strength(two) - strength(one));
  }

  /** What is known of one head on one side. */
  head(side, head) {
    const about = SIDES[side];
    const read = (name) => (name && this.column(name) ? this.column(name)[head] : NaN);
    return { value: read(about.value), low: read(about.low), high: read(about.high), q: read(about.q), claimed: read(about.claim) === 1 && this.resolved(side),
      other: read(about.other) === 1, n: this.about[about.n] };
  }

  resolved(side) {
    return this.about.states[SIDES[side].sign]?.resolved ?? false;
  }

  words(side) {
    return this.about.states[SIDES[side].sign]?.words ?? `n = ${this.about[SIDES[side].n]}; no claim is made on these`;
  }
}

/** Which side's words a selector shows. */
export function sideWords(side) {
  return SIDES[side].words;
}

function rowsOf(scan, side) {
  const names = scan.about.columns;
  const header = ["model", "dataset", "operation", "positions", "measure", "stack", "layer", "head", ...names];
  const columns = names.map((name) => scan.column(name));
  const { model, dataset, operation, positions, measure, stack, heads } = scan.about;
  return [header, ...Array.from({ length: scan.size }, (_, head) =>
    [model, dataset, operation, positions, measure, stack, Math.floor(head / heads), head % heads, ...columns.map((column) => column[head])])];
}

function mapOf(scan, side, quantile, chosen, choose) {
  const { layers, heads, unit } = scan.about;
  const values = scan.column(SIDES[side].value);
  const share = shareOf(values, quantile);
  const ranking = scan.ranking(side);
  const rank = new Map(ranking.map((head, place) => [head, place + 1]));
  const claims = ranking.filter((head) => scan.head(side, head).claimed);
  const named = new Set((claims.length ? claims : ranking).slice(0, NAMED_HEADS));
  const small = heads * 44 > 1000;
  const most = largest(values), decimals = decimalsFor(most);
  return cellGrid({
    rows: Array.from({ length: layers }, (_, layer) => String(layer)),
    columns: Array.from({ length: heads }, (_, head) => String(head)),
    rowTitle: "layer", columnTitle: "head",
    cell: small ? [26, 20] : [78, 38],
    most: small ? 900 : 800,
    share: (layer, head) => share(values[layer * heads + head]),
    text: (layer, head) => {
      const place = layer * heads + head;
      if (small) return "";
      return scan.head(side, place).claimed ? [scan.name(place), signed(values[place], decimals)] : cellWords(values[place], most, decimals);
    },
    mark: (layer, head) => {
      const place = layer * heads + head;
      const about = scan.head(side, place);
      const name = named.has(place) && small ? { label: scan.name(place) } : {};
      if (about.claimed) return { outline: true, sign: small ? (about.value >= 0 ? "+" : "−") : null, ...name };
      return named.has(place) && small && !claims.length ? name : null;
    },
    lines: (layer, head) => headLines(scan, side, layer * heads + head, rank, unit),
    choose: (layer, head) => choose(layer * heads + head),
    chosen: chosen === null ? null : [Math.floor(chosen / heads), chosen % heads],
    label: `Head map of ${scan.about.model} on ${scan.about.dataset}: ${claims.length} heads pass${claims.length ? `, strongest ${claims.slice(0, 3).map((head) => scan.name(head)).join(", ")}` : ""}`,
  });
}

function headLines(scan, side, head, rank, unit) {
  const { value, low, high, q, claimed, other, n } = scan.head(side, head);
  if (!Number.isFinite(value)) return [scan.name(head), "not measured"];
  const lines = [`${scan.name(head)}: ${withInterval(value, low, high, unit)}`];
  lines.push(`${Number.isFinite(q) ? `q = ${shown(q, 2)}, ` : ""}n = ${n}, rank ${rank.get(head)} of ${rank.size}`);
  if (claimed) lines.push(side === "difference" ? "differs" : "passes the claim");
  if (scan.column("below_noise_floor")?.[head] === 1) lines.push("below 3 × the effect of putting an activation in its own place: noise");
  if (other) lines.push("works against the right answer (suppressor)");
  return lines;
}

// A thumbnail of each category's map, one pixel a head.
function miniMap(scan, side, quantile, chosen, choose) {
  const { layers, heads } = scan.about;
  const canvas = element("canvas", { width: heads, height: layers, "aria-hidden": "true" });
  const values = scan.column(SIDES[side].value), share = shareOf(values, quantile), pen = canvas.getContext("2d");
  values.forEach((value, head) => {
    const colour = divergingColour(share(value));
    if (colour === "none") return;
    pen.fillStyle = colour;
    pen.fillRect(head % heads, Math.floor(head / heads), 1, 1);
  });
  const words = scan.page.label(scan.about.dataset);
  return element("button", { type: "button", class: "mini", "aria-pressed": String(chosen), onclick: choose, title: `${words}: ${scan.words(side)}` }, canvas, element("span", null, words));
}

/** The view of all head maps; null without a scan. */
export function headsView(page) {
  const all = page.content.scans.map((_, index) => new HeadScan(page, index));
  if (!all.length) return null;
  const kind = (scan) => `${scan.about.operation} ${scan.about.positions} ${scan.about.measure} ${scan.about.stack}`;
  const state = { model: all[0].about.model, dataset: all[0].about.dataset, kind: kind(all[0]), side: all[0].sides[0], head: null,
    colours: all[0].size >= MANY_HEADS ? "quantile" : "value" };
  const controls = element("div", { class: "controls" }), minis = element("div", { class: "minis" });
  const map = element("div", { class: "map" }), panel = element("aside", { class: "panel", "aria-live": "polite" });
  const current = () => all.find((scan) => scan.about.model === state.model && scan.about.dataset === state.dataset && kind(scan) === state.kind)
    ?? all.find((scan) => scan.about.model === state.model && scan.about.dataset === state.dataset) ?? all.find((scan) => scan.about.model === state.model);
  const choose = (head) => {
    state.head = head;
    map.firstElementChild.pick([Math.floor(head / current().about.heads), head % current().about.heads]);
    panel.replaceChildren(headPanel(page, all, current(), state.side, head));
  };
  const draw = () => {
    const scan = current();
    Object.assign(state, { dataset: scan.about.dataset, kind: kind(scan) });
    if (!scan.sides.includes(state.side)) state.side = scan.sides[0];
    if (state.head !== null && state.head >= scan.size) state.head = null;
    // The strongest head is told until another one is chosen.
    const head = state.head ?? scan.ranking(state.side)[0] ?? null;
    const change = (name) => (value) => { state[name] = value; draw(); };
    const here = all.filter((other) => other.about.model === state.model);
    controls.replaceChildren(
      selection("Model", distinct(all.map((other) => other.about.model)).map((name) => [name, name]), state.model, change("model")),
      selection("Category", distinct(here.map((other) => other.about.dataset)).map((name) => [name, page.label(name)]), state.dataset, change("dataset")),
      selection("Heads replaced by", distinct(here.filter((other) => other.about.dataset === state.dataset).map(kind)).map((name) =>
        [name, kindWords(all.find((other) => kind(other) === name))]), state.kind, change("kind")),
      selection("Show", scan.sides.map((side) => [side, SIDES[side].words]), state.side, change("side")),
      selection("Colours by", [["value", "value"], ["quantile", "quantile"]], state.colours, change("colours")));
    const quantile = state.colours === "quantile";
    minis.replaceChildren(...here.filter((other) => kind(other) === state.kind).map((other) =>
      miniMap(other, state.side, quantile, other === scan, () => change("dataset")(other.about.dataset))));
    const most = largest(scan.column(SIDES[state.side].value));
    const ends = quantile ? ["most below 0", "0", "most above 0"] : [`−${shown(most, 3)} ${scan.about.unit}`, "0", `${shown(most, 3)} ${scan.about.unit}`];
    map.replaceChildren(mapOf(scan, state.side, quantile, head, choose), colourBar(ends));
    if (scan.about.caption) frame.setCaption(`${scan.about.model}, ${page.label(scan.about.dataset)}: ${scan.words(state.side)}. ${scan.about.caption} Outlined: q < 0.05 over all heads.`);
    else frame.setCaption(`${scan.about.model}, ${page.label(scan.about.dataset)}: ${scan.words(state.side)}. A head's effect is the ${scan.about.measure === "logit_diff" ? "logit difference" : "measure"} ` +
      `before minus after replacing its output by ${scan.about.words}; above 0 (orange): the head supports the right answer. Outlined: passes the claim ` +
      `(q < 0.05 over all heads, gold yes and gold no alike)${quantile ? "; colours go by rank, so that the pattern shows at any size: what is strong is said by the number" : ""}.`);
    panel.replaceChildren(state.head === null ? element("p", { class: "note" }, "The strongest head. A click, or arrow keys and Enter, choose another.") : "",
      head === null ? "" : headPanel(page, all, scan, state.side, head));
  };
  const left = element("div", null, controls, minis, map);
  const frame = figure({ title: "", controls: [], body: element("div", { class: "split" }, left, panel), under: left, caption: "",
    name: () => fileName("heads", state.model, page.label(state.dataset), state.side), rows: () => rowsOf(current(), state.side) });
  page.onSelect((choice) => {
    const wanted = all.find((scan) => scan.about.model === (choice.model ?? state.model) && scan.about.dataset === (choice.dataset ?? state.dataset));
    if (!wanted) return;
    Object.assign(state, { model: wanted.about.model, dataset: wanted.about.dataset });
    if (choice.head) {
      const [layer, head] = choice.head.split(".").map(Number);
      if (layer < wanted.about.layers && head < wanted.about.heads) state.head = layer * wanted.about.heads + head;
    }
    draw();
  });
  addEventListener("themechange", draw);
  draw();
  return frame;
}

function kindWords(scan) {
  const { words, positions, measure, stack } = scan.about;
  return [words, positions === "all" ? "" : `at ${positions} positions`, measure === "logit_diff" ? "" : "(published measure)", stack === "decoder" ? "" : stack].filter(Boolean).join(" ");
}
