// Evaluated runs: how often each is right, with its interval, what it gains over another run, and the answers that became another.

import { distinct, element, shown, withInterval } from "./dom.js";
import { LINES } from "./colours.js";
import { figure, fileName, sortableTable } from "./figures.js";
import { pointRows } from "./charts.js";

const WIDE = 260;

function placeOf(entry, row) {
  return row.subset === "all" ? entry.label : `${entry.label}, ${row.subset}`;
}

// Runs on the same samples stand below one another, whatever order they were made in.
function rowsOf(entries, keep) {
  const all = entries.flatMap((entry) => entry.rows.filter(keep).map((row) => ({ entry, row, place: placeOf(entry, row) })));
  return distinct(all.map(({ place }) => place)).flatMap((place) => all.filter((one) => one.place === place));
}

function nameOf({ entry, place }, models) {
  return `${place}: ${models > 1 ? `${entry.model}, ` : ""}${entry.change}`;
}

function pointsOf(rows, models, factor, unit, read) {
  return rows.map((one) => {
    const about = read(one.row), at = (value) => (value === null ? NaN : factor * value);
    const words = `run ${one.entry.run}: ${withInterval(at(about.value), at(about.low), at(about.high), unit)}, n = ${about.n}${about.p == null ? "" : `, p = ${shown(about.p, 2)}`}` +
      `${about.better == null ? "" : `; ${about.better} better, ${about.worse} worse`}`;
    return { label: nameOf(one, models), points: [{ value: at(about.value), low: at(about.low), high: at(about.high), colour: one.entry.compared_with ? LINES[1] : LINES[0], words }] };
  });
}

function csvRows(entries) {
  return [["run", "model", "change", "dataset", "pool", "split", "subset", "metric", "value", "low", "high", "n", "over run", "gain", "gain low", "gain high", "p", "better", "worse"],
    ...entries.flatMap((entry) => entry.rows.map((row) => [entry.run, entry.model, entry.change, entry.dataset, entry.pool, entry.split, row.subset, entry.metric, row.value, row.low, row.high, row.n,
      entry.compared_with, ...["value", "low", "high", "p", "better", "worse"].map((name) => row.gain?.[name] ?? null)]))];
}

function turnedFigure(entries, models) {
  const rows = entries.flatMap((entry) => entry.turned.map((one) => [nameOf({ entry, place: entry.label }, models), one.better ? "better" : "worse", one.question, one.gold, one.before, one.after, one.id]));
  if (!rows.length) return null;
  const columns = ["run", "became", "question", "gold", "before", "after", "sample"];
  const frame = figure({ title: "Answers that became another", body: sortableTable(columns, rows), name: () => fileName("answers-that-turned"), rows: () => [columns, ...rows],
    caption: "Samples whose score the change raises or lowers, those that became worse first." });
  frame.querySelector(".save-svg").remove();
  return frame;
}

/** The view of evaluated runs; null without any. */
export function evaluationsView(page) {
  const all = page.content.evaluations ?? [];
  if (!all.length) return null;
  const models = distinct(all.map((entry) => entry.model)).length;
  const figures = distinct(all.map((entry) => entry.metric)).map((metric) => {
    const entries = all.filter((entry) => entry.metric === metric);
    const share = entries.every((entry) => entry.rows.every((row) => Math.abs(row.value ?? 0) <= 1)), [factor, unit] = share ? [100, "%"] : [1, metric];
    return figure({ title: metric.replaceAll("_", " "), name: () => fileName("evaluations", metric), rows: () => csvRows(entries),
      body: pointRows({ unit, left: WIDE, label: `${metric} of evaluated runs`, rows: pointsOf(rowsOf(entries, () => true), models, factor, unit, (row) => row) }),
      caption: `Line: 95 % interval over images. Orange: held against another run. Pool ${distinct(entries.map((entry) => entry.pool)).join(", ")}, split ${distinct(entries.map((entry) => entry.split)).join(", ")}.` });
  });
  const held = all.filter((entry) => entry.compared_with);
  const gains = held.length ? figure({ title: "Gain over another run", name: () => fileName("gains"), rows: () => csvRows(held),
    body: pointRows({ unit: "%", left: WIDE, label: "Gains of evaluated runs", rows: pointsOf(rowsOf(held, (row) => row.gain), models, 100, "%", (row) => row.gain) }),
    caption: `Over ${distinct(held.map((entry) => `run ${entry.compared_with}`)).join(", ")}, on the samples that both answered, paired by sample; line: 95 % interval over images.` }) : null;
  return element("div", null, figures, gains, turnedFigure(held, models));
}
