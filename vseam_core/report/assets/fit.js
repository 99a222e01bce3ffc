// Drawings laid out for the width that they are shown at: letters keep their size, and what has no room is left out, stacked or scrolled to.

import { element } from "./dom.js";

// What says how much room there is; the drawing itself must not, or it would never grow again.
const ROOMS = ".panel, .split > *, figure, section, .vseam";
const EDGES = 40;

function roomIn(place) {
  const { paddingLeft, paddingRight } = getComputedStyle(place);
  return Math.floor(place.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight));
}

/** Scrolls a drawing that is wider than its place until `x`, in the drawing's own units, is seen. */
export function reach(drawing, x) {
  const frame = drawing.parentElement;
  if (x < frame.scrollLeft || x > frame.scrollLeft + frame.clientWidth) frame.scrollLeft = x - frame.clientWidth / 2;
}

/** A place that holds `draw(width)`, an SVG for at most `most` pixels, and draws it again when there is more or less room. */
export function fitted(most, draw) {
  const frame = element("div", { class: "wide" });
  let drawnFor = null, host = null;
  const put = (room) => {
    const width = Math.min(most, room);
    if (width === drawnFor) return;
    const focused = frame.contains(document.activeElement);
    drawnFor = width;
    frame.replaceChildren(draw(width));
    if (focused) frame.firstElementChild.focus();
  };
  // In a frame of its own: the new height would else be reported as a loop.
  const watch = new ResizeObserver(() => requestAnimationFrame(() => {
    if (!frame.isConnected) return void watch.disconnect();
    if (!host) {
      host = frame.closest(ROOMS);
      watch.disconnect();
      if (!host) return;
      watch.observe(host);
    }
    if (host.clientWidth) put(roomIn(host));
  }));
  put(innerWidth - EDGES);
  watch.observe(frame);
  return frame;
}
