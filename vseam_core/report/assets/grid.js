// A grid of coloured cells with labels, a cursor for mouse and keyboard, and marks that need no colour to be read.

import { onPointer, shape, tooltip } from "./dom.js";
import { divergingColour, inkOn, sequentialColour } from "./colours.js";
import { fitted, reach } from "./fit.js";

const LETTER = 6.2;
// No cell is narrower; turned words above columns need more.
const LEAST = 5, LEAST_TURNED = 14;

/** How wide a text is at 11 pixels, about. */
export function textWidth(text, size = 11) {
  return (String(text).length * LETTER * size) / 11;
}

/**
 * Draws rows × columns. `share(row, column)` gives the colour (−1 to 1, NaN: none), `text` the words of a cell, `mark` its sign:
 * {outline, label, sign} or null; `lines(row, column)` what is said about it, `choose(row, column)` what a click does. Cells are `cell`
 * wide and high where there is room, and narrower otherwise, down to `least`; then it scrolls. `pick(place)` of what is returned marks a cell.
 */
export function cellGrid({ chosen = null, most = 1100, ...about }) {
  let picked = chosen;
  const frame = fitted(most, (width) => {
    const drawing = gridOf(about, width);
    drawing.pick(picked);
    return drawing;
  });
  frame.pick = (place) => {
    picked = place;
    frame.firstElementChild.pick(place);
  };
  return frame;
}

// Where everything is: the widest cells that fit, and whether the words above them are turned.
function layoutOf({ rows, columns, cell, rowTitle, columnTitle, rotate, least }, room) {
  const longest = Math.max(0, ...columns.map((words) => textWidth(words)));
  const slanted = Math.min(longest * 0.72, 110);
  const left = Math.max(30, ...rows.map((words) => textWidth(words) + 14)) + (rowTitle ? 16 : 0);
  const fits = (right, smallest) => Math.max(smallest, Math.min(cell[0], Math.floor((room - left - right) / Math.max(columns.length, 1))));
  // Numbers may be left out, as one knows which they are; words may not.
  const turned = rotate || (fits(6, least ?? LEAST) < longest + 4 && columns.some((words) => !/^\d+$/.test(words)));
  const right = turned ? slanted : 6, width = fits(right, least ?? (turned ? LEAST_TURNED : LEAST));
  const height = Math.max(5, Math.min(cell[1], width < cell[0] ? Math.max(width, 13) : cell[1]));
  const top = (turned ? slanted + 14 : 20) + (columnTitle ? 16 : 0);
  return { left, top, width, height, turned, longest, size: [left + width * columns.length + right, top + height * rows.length + 6] };
}

function gridOf(about, room) {
  const { rows, columns, cell = [48, 26], share, text = () => "", mark = () => null, lines, choose = null, label, sequential = false, rowTitle = "", columnTitle = "" } = about;
  const geometry = layoutOf({ ...about, cell }, room), { left, top, width, height, size } = geometry;
  const drawing = shape("svg", {
    class: "drawing grid", viewBox: `0 0 ${size[0]} ${size[1]}`, width: size[0], height: size[1], role: "img", "aria-label": label, tabindex: 0,
    "font-size": 11, "font-family": "inherit",
  });
  writeTitles(drawing, rows, columns, rowTitle, columnTitle, geometry);
  const colour = sequential ? sequentialColour : divergingColour;
  const gap = width > 14 ? 1 : 0.25;
  const marks = [];
  for (let row = 0; row < rows.length; row++) {
    for (let column = 0; column < columns.length; column++) {
      const [x, y] = [left + width * column, top + height * row];
      const fill = colour(share(row, column));
      drawing.append(shape("rect", { x: x + gap / 2, y: y + gap / 2, width: width - gap, height: height - gap, fill,
        stroke: fill === "none" ? "currentColor" : "none", "stroke-opacity": 0.15 }));
      writeInCell(drawing, [text(row, column)].flat().filter(Boolean), { x, y, width, height, fill });
      const sign = mark(row, column);
      if (sign) marks.push({ ...sign, x, y, fill });
    }
  }
  drawMarks(drawing, marks, geometry);
  const cursor = shape("rect", { width, height, fill: "none", stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": "3 2", visibility: "hidden",
    "pointer-events": "none", class: "cursor" });
  const picked = shape("rect", { width: width + 2, height: height + 2, fill: "none", stroke: "currentColor", "stroke-width": 2.5, visibility: "hidden",
    "pointer-events": "none", class: "picked" });
  drawing.append(picked, cursor);
  drawing.pick = (place) => {
    picked.setAttribute("visibility", place ? "visible" : "hidden");
    if (place) move(picked, geometry, place, 1);
  };
  followPointer(drawing, cursor, geometry, [rows.length, columns.length], lines, choose);
  drawing.geometry = geometry;
  return drawing;
}

function writeTitles(drawing, rows, columns, rowTitle, columnTitle, { left, top, width, height, turned, longest }) {
  const ink = { fill: "currentColor" };
  if (rowTitle) drawing.append(shape("text", { ...ink, x: 0, y: 0, "text-anchor": "middle", opacity: 0.75,
    transform: `translate(11 ${top + (height * rows.length) / 2}) rotate(-90)` }, rowTitle));
  if (columnTitle) drawing.append(shape("text", { ...ink, x: left + (width * columns.length) / 2, y: 11, "text-anchor": "middle", opacity: 0.75 }, columnTitle));
  const every = (space, need) => Math.max(1, Math.ceil(need / Math.max(space, 1)));
  const rowStep = every(height, 11), columnStep = turned ? every(width, 10) : every(width, longest + 4);
  rows.forEach((words, row) => {
    if (row % rowStep === 0) drawing.append(shape("text", { ...ink, x: left - 6, y: top + height * (row + 0.5) + 4, "text-anchor": "end" }, words));
  });
  columns.forEach((words, column) => {
    if (column % columnStep) return;
    const place = [left + width * (column + 0.5), top - 6];
    drawing.append(turned
      ? shape("text", { ...ink, transform: `translate(${place[0]} ${place[1]}) rotate(-45)` }, words)
      : shape("text", { ...ink, x: place[0], y: place[1], "text-anchor": "middle" }, words));
  });
}

// As many of a cell's lines as it has room for, the first ones first.
function writeInCell(drawing, words, { x, y, width, height, fill }) {
  const wide = words.findIndex((word) => textWidth(word) >= width - 1);
  const fitting = words.slice(0, Math.min(wide < 0 ? words.length : wide, Math.floor(height / 13)));
  fitting.forEach((word, line) => drawing.append(shape("text", { x: x + width / 2, y: y + height / 2 + 4 + 12 * (line - (fitting.length - 1) / 2), class: "value",
    "text-anchor": "middle", "font-weight": words.length > 1 && line === 0 ? 700 : 400, fill: inkOn(fill), "pointer-events": "none" }, word)));
}

// A claim is outlined twice, dark beside light, and named or signed: a nearly white cell says nothing by its colour.
function drawMarks(drawing, marks, { top, width, height }) {
  for (const { x, y, fill, outline, sign } of marks) {
    if (!outline) continue;
    const box = (inset, stroke, thick) => shape("rect", { x: x + inset, y: y + inset, width: width - 2 * inset, height: height - 2 * inset, fill: "none", stroke,
      "stroke-width": thick, "pointer-events": "none" });
    const wide = width > 20 ? 2 : 1.2;
    drawing.append(box(wide / 2, "currentColor", wide), box(wide * 1.25, inkOn(fill) === "#ffffff" ? "#ffffff" : "none", wide / 2));
    if (sign && width >= 14) drawing.append(shape("text", { x: x + width / 2, y: y + height / 2 + 4, "text-anchor": "middle", "font-size": Math.min(12, width - 3),
      "font-weight": 700, fill: inkOn(fill), "pointer-events": "none" }, sign));
  }
  // Names of the strongest lie on top of everything, with a halo: above their cell, in the first row below it, where no column's words are.
  for (const { x, y, label } of marks) {
    if (label) drawing.append(shape("text", { x: x + width / 2, y: y === top ? y + height + 10 : y - 2, "text-anchor": "middle", "font-weight": 600, fill: "currentColor",
      class: "halo", "pointer-events": "none" }, label));
  }
}

function move(box, { left, top, width, height }, [row, column], grow = 0) {
  box.setAttribute("x", left + width * column - grow);
  box.setAttribute("y", top + height * row - grow);
}

function followPointer(drawing, cursor, geometry, [rows, columns], lines, choose) {
  let place = null;
  const at = (event) => {
    const box = drawing.getBoundingClientRect();
    const scale = geometry.size[0] / box.width;
    const column = Math.floor(((event.clientX - box.left) * scale - geometry.left) / geometry.width);
    const row = Math.floor(((event.clientY - box.top) * scale - geometry.top) / geometry.height);
    return row >= 0 && row < rows && column >= 0 && column < columns ? [row, column] : null;
  };
  const clear = () => {
    place = null;
    cursor.setAttribute("visibility", "hidden");
  };
  const leave = () => {
    clear();
    tooltip().hide();
  };
  const put = (next) => {
    place = next;
    move(cursor, geometry, place);
    cursor.setAttribute("visibility", "visible");
  };
  onPointer(drawing, (event) => {
    const next = at(event);
    if (next) put(next);
    else clear();
    return next && lines(...next);
  });
  drawing.addEventListener("pointerleave", clear);
  drawing.addEventListener("blur", leave);
  drawing.addEventListener("click", (event) => {
    const next = at(event);
    if (next && choose) choose(...next);
  });
  drawing.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key === "Enter" && place && choose) choose(...place);
    if (event.key === "Escape") leave();
    if (!steps[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    const [down, across] = place ? steps[event.key] : [0, 0];
    const [row, column] = place ?? [0, 0];
    const next = [Math.min(Math.max(row + down, 0), rows - 1), Math.min(Math.max(column + across, 0), columns - 1)];
    put(next);
    reach(drawing, geometry.left + geometry.width * (next[1] + 0.5));
    const box = drawing.getBoundingClientRect(), scale = box.width / geometry.size[0];
    tooltip().show(lines(...next), box.left + (geometry.left + geometry.width * (next[1] + 1)) * scale, box.top + (geometry.top + geometry.height * (next[0] + 1)) * scale);
  });
}

/** A bar that says which colour is which value; `ends` are the words at −1, 0 and 1. */
export function colourBar(ends, sequential = false) {
  const colour = sequential ? sequentialColour : divergingColour;
  const steps = 24;
  const bar = shape("svg", { viewBox: "0 0 240 12", width: 240, height: 12, "aria-hidden": "true" },
    Array.from({ length: steps }, (_, index) => shape("rect", { x: index * 10, y: 0, width: 10.5, height: 12,
      fill: colour(sequential ? index / (steps - 1) : (2 * index) / (steps - 1) - 1) })));
  return element("div", { class: "colour-bar" }, bar, element("div", { class: "ends" }, ends.map((words) => element("span", null, words))));
}
