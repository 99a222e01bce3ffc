// What every figure has: a title, its controls, what it shows, a caption, and both as files: SVG as drawn, CSV with every number.

import { element, shown, withInterval } from "./dom.js";

function save(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const anchor = element("a", { href: address, download: name });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function field(value) {
  if (value === null || value === undefined || (typeof value === "number" && !Number.isFinite(value))) return "";
  const text = String(value);
  // A spreadsheet takes a text that begins like this for a formula.
  const safe = typeof value === "string" && /^[=+@\t\r-]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Rows as CSV: numbers as they are stored, unrounded; unknown ones empty. */
export function csvOf(rows) {
  return rows.map((row) => row.map(field).join(",")).join("\r\n") + "\r\n";
}

function standalone(drawing, title) {
  const copy = drawing.cloneNode(true);
  const style = getComputedStyle(drawing);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("color", style.color);
  copy.setAttribute("font-family", "system-ui, sans-serif");
  copy.removeAttribute("tabindex");
  const page = getComputedStyle(drawing.closest(".vseam") ?? document.body).backgroundColor;
  const [, , width, height] = (copy.getAttribute("viewBox") ?? "0 0 100 100").split(" ");
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ width, height, fill: page })) ground.setAttribute(name, value);
  const words = document.createElementNS("http://www.w3.org/2000/svg", "title");
  words.textContent = title;
  copy.prepend(words, ground);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  return new XMLSerializer().serializeToString(copy);
}

/** A file name without anything that a file system could mind. */
export function fileName(...words) {
  return words.map((word) => String(word).replace(/[^A-Za-z0-9.@-]+/g, "-").replace(/^[-.]+|[-.]+$/g, "") || "unnamed").join("_");
}

/**
 * A figure. `body` is what it shows, `caption` how it is read; `name()` names its files, `rows()` gives the CSV with its header.
 * What is saved as SVG is the first drawing in `body`. Caption and files stand below `under`, a part of the body, or below all of it.
 */
export function figure({ title, controls = [], body, under = null, caption = "", name, rows }) {
  const words = under ? element("p", { class: "note caption" }, caption) : element("figcaption", null, caption);
  const saveDrawing = () => {
    const drawing = body.querySelector("svg.drawing");
    if (drawing) save(`${name()}.svg`, standalone(drawing, title), "image/svg+xml");
  };
  const frame = element("figure", { class: "frame" },
    title && element("h3", null, title),
    controls.length ? element("div", { class: "controls" }, controls) : null,
    body);
  const files = element("p", { class: "files" },
    element("button", { type: "button", class: "save-svg", onclick: saveDrawing }, "SVG"),
    element("button", { type: "button", class: "save-csv", onclick: () => save(`${name()}.csv`, csvOf(rows()), "text/csv") }, "CSV"));
  (under ?? frame).append(words, files);
  frame.setCaption = (text) => words.replaceChildren(text);
  return frame;
}

/** A button that saves rows as CSV; `name()` is the file's name without its ending. */
export function saveButton(words, name, rows) {
  return element("button", { type: "button", onclick: () => save(`${name()}.csv`, csvOf(rows()), "text/csv") }, words);
}

/** A cell of a table: a number with its limits, which sorts by the number. */
export function intervalCell(value, low, high) {
  return { value, words: withInterval(value, low ?? NaN, high ?? NaN) };
}

/**
 * A table whose columns sort by a click or the keyboard; `rows` are lists of plain values (or of `intervalCell`s) under `columns`. The first
 * column stays where the others scroll.
 */
export function sortableTable(columns, given, { caption = "", limit = 500 } = {}) {
  const rows = given.map((row) => row.map((cell) => (cell?.words === undefined ? cell : cell.value)));
  const words = given.map((row, place) => row.map((cell, column) => cell?.words ?? cellText(rows[place][column])));
  const numeric = columns.map((_, index) => rows.every((row) => row[index] === null || typeof row[index] === "number"));
  let order = rows.map((_, index) => index), sorted = null;
  const body = element("tbody");
  const more = element("p", { class: "note" });
  const draw = () => {
    body.replaceChildren(...order.slice(0, limit).map((index) => element("tr", null, rows[index].map((value, column) =>
      element("td", { class: numeric[column] ? "number" : null }, value === null && !numeric[column] ? "" : words[index][column])))));
    more.textContent = rows.length > limit ? `The first ${limit} of ${rows.length} rows; the CSV has all.` : "";
  };
  const heads = columns.map((name, column) => element("th", { scope: "col", class: numeric[column] ? "number" : null },
    element("button", { type: "button", onclick: () => sort(column) }, name)));
  const sort = (column) => {
    const turn = sorted?.column === column && sorted.turn === 1 ? -1 : 1;
    sorted = { column, turn };
    const missing = (value) => value === null || value === "";
    order = rows.map((_, index) => index).sort((one, two) => {
      const [first, second] = [rows[one][column], rows[two][column]];
      if (missing(first) || missing(second)) return missing(first) - missing(second);
      if (numeric[column]) return turn * (first - second);
      return turn * String(first).localeCompare(String(second), "en", { numeric: true });
    });
    heads.forEach((cell, index) => cell.setAttribute("aria-sort", index !== column ? "none" : turn === 1 ? "ascending" : "descending"));
    draw();
  };
  draw();
  return element("div", { class: "wide" },
    element("table", { class: "sortable" }, caption && element("caption", null, caption), element("thead", null, element("tr", null, heads)), body), more);
}

function cellText(value) {
  return Array.isArray(value) ? value.join(", ") : shown(value);
}
