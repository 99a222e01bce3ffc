// Ways to answer beside one another: gains with their intervals, beside what a yes/no threshold alone gains, and every figure as a table.

import { element, selection, shown, withInterval } from "./dom.js";
import { LINES } from "./colours.js";
import { figure, fileName, intervalCell, sortableTable } from "./figures.js";
import { pointRows } from "./charts.js";
import { taskChooser } from "./tasks.js";

const QUANTITIES = {
  gain: "gain over the unchanged model",
  gain_over_threshold: "gain over the unchanged model with a threshold",
  own_threshold_gain: "the same, each method with a threshold of its own",
  accuracy: "accuracy",
};
const COLUMNS = [["method", "method"], ["setting", "change"], ["accuracy", "accuracy"], ["gain", "gain"], ["p", "gain_p"], ["q", "gain_q"], ["over threshold", "gain_over_threshold"],
  ["with its own", "own_threshold_gain"], ["q with its own", "own_threshold_gain_q"], ["F1", "f1"], ["yes", "yes_ratio"], ["seconds", "seconds_per_answer"], ["passes", "forward_passes_per_answer"],
  ["remark", "reason"]];
const WITH_LIMITS = Object.keys(QUANTITIES);

function settingOf(row) {
  return row.accuracy === null ? "not measured" : row.change;
}

// Every figure with its limits; columns of which nothing is known are left out.
function tableOf(rows) {
  const there = COLUMNS.filter(([, key]) => rows.some((row) => row[key] !== null && row[key] !== ""));
  const cell = (row, name, key) => (name === "setting" ? settingOf(row) : WITH_LIMITS.includes(key) ? intervalCell(row[key], row[`${key}_low`], row[`${key}_high`]) : row[key]);
  return sortableTable(there.map(([name]) => name), rows.map((row) => there.map(([name, key]) => cell(row, name, key))));
}

function pointOf(row, quantity) {
  const value = (end) => (row[`${quantity}${end}`] === null ? NaN : 100 * row[`${quantity}${end}`]);
  const control = row.method === "threshold";
  const tested = row[`${quantity}_p`] == null ? "" : `, p = ${shown(row[`${quantity}_p`], 2)}${row[`${quantity}_q`] == null ? "" : `, q = ${shown(row[`${quantity}_q`], 2)}`}`;
  return { value: value(""), low: value("_low"), high: value("_high"), colour: control ? LINES[0] : LINES[1], mark: control ? "cross" : "diamond",
    words: `${row.method}${row.change ? ` (${row.change})` : ""}: ${withInterval(value(""), value("_low"), value("_high"), "%")}${tested}` };
}

/** The view of comparisons; null without any. */
export function comparisonView(page) {
  const all = page.content.comparisons ?? [];
  if (!all.length) return null;
  const state = { quantity: "gain" };
  const quantities = element("div", { class: "controls" }), place = element("div"), table = element("div");
  let chosen = all[0];
  const draw = () => {
    quantities.replaceChildren(selection("Quantity", Object.entries(QUANTITIES), state.quantity, (value) => { state.quantity = value; draw(); }));
    const measured = chosen.rows.filter((row) => row[state.quantity] !== null);
    place.replaceChildren(measured.length ? pointRows({ unit: "%", left: 190, zero: state.quantity !== "accuracy", label: `${QUANTITIES[state.quantity]} of ways to answer: ${chosen.model}, ${chosen.label}`,
      rows: measured.map((row) => ({ label: row.method, points: [pointOf(row, state.quantity)] })) }) : element("p", { class: "note" }, "Not measured."));
    table.replaceChildren(tableOf(chosen.rows));
    frame.setCaption(`${chosen.n} test samples of the split ${chosen.split}; settings were chosen on ${chosen.n_choose} samples of the choose pool, which share no image with them. Lines: 95 % limits over images, paired by sample. ` +
      "Cross: the unchanged model with a threshold on logit(yes) − logit(no), which gains whatever a shift towards yes or no can gain. q: p corrected for the methods of the comparison.");
  };
  const chooser = taskChooser(page, all, ([entry]) => { chosen = entry; draw(); });
  const frame = figure({ title: "", body: element("div", null, chooser.controls, quantities, place, table), name: () => fileName("comparison", chosen.model, chosen.dataset),
    rows: () => [["model", "dataset", "split", "n", "n_choose", ...Object.keys(chosen.rows[0])], ...all.flatMap((entry) => entry.rows.map((row) => [entry.model, entry.dataset, entry.split, entry.n, entry.n_choose, ...Object.values(row)]))] });
  chooser.update();
  return frame;
}
