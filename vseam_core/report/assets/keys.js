// Arrow keys on a drawing of points: along a row and from row to row, each told as under the pointer.

import { shape, tooltip } from "./dom.js";
import { reach } from "./fit.js";

/** Lets the keyboard walk through `rows`, lists of {x, y, lines} in the drawing's own units; `width` is that of the drawing. */
export function walkPoints(drawing, width, rows) {
  const there = rows.filter((row) => row.length);
  if (!there.length) return;
  const ring = shape("circle", { r: 7, fill: "none", stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": "3 2", visibility: "hidden", "pointer-events": "none" });
  let place = null;
  const leave = () => {
    place = null;
    ring.setAttribute("visibility", "hidden");
    tooltip().hide();
  };
  const within = (value, count) => Math.min(Math.max(value, 0), count - 1);
  drawing.append(ring);
  drawing.setAttribute("tabindex", 0);
  drawing.addEventListener("blur", leave);
  drawing.addEventListener("keydown", (event) => {
    if (event.key === "Escape") leave();
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const row = place ? within(place[0] + step[0], there.length) : 0;
    place = [row, place ? within(place[1] + step[1], there[row].length) : 0];
    const { x, y, lines } = there[row][place[1]];
    reach(drawing, x);
    const box = drawing.getBoundingClientRect(), scale = box.width / width;
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    ring.setAttribute("visibility", "visible");
    tooltip().show(lines, box.left + x * scale, box.top + y * scale);
  });
}
