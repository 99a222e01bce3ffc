// What a notebook shows in a cell: views of a page, by the modules that draw the page. anywidget calls `render`.

import { darkWhere } from "./colours.js";
import { Page } from "./data.js";
import { element } from "./dom.js";
import { VIEWS } from "./views.js";

// The first ground below a place that is not clear: notebooks have themes of their own, whatever the system prefers.
function onDarkGround(place) {
  for (let node = place; node; node = node.parentElement) {
    const [red, green, blue, alpha = 1] = (getComputedStyle(node).backgroundColor.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
    if (alpha > 0) return 0.299 * red + 0.587 * green + 0.114 * blue < 128;
  }
  return false;
}

function sectionOf(page, [id, title, view], alone) {
  const made = view(page);
  return made && element("section", { "data-view": id, "aria-label": title }, alone ? null : element("h3", null, title), made);
}

// A link of the page names a view and what to choose there; the notebook's own address stays as it is.
function follow(event, page, root) {
  const link = event.target.closest?.("a[href^='#']");
  if (!link) return;
  event.preventDefault();
  const [id, query] = decodeURI(link.getAttribute("href").slice(1)).split("?");
  if (query) page.select(Object.fromEntries(new URLSearchParams(query)), "link");
  root.querySelector(`[data-view="${CSS.escape(id)}"]`)?.scrollIntoView({ block: "nearest" });
}

/** Draws the views that the model names, those that have something to show, into `el`; returns what takes them away again. */
export function render({ model, el }) {
  const blocks = model.get("blocks"), names = model.get("views");
  const page = new Page((name) => blocks[name] ?? null);
  const root = element("div", { class: "vseam" });
  const paint = () => {
    root.dataset.theme = onDarkGround(el) ? "dark" : "light";
    dispatchEvent(new Event("themechange"));
  };
  darkWhere(() => onDarkGround(el));
  root.addEventListener("click", (event) => follow(event, page, root));
  el.append(root);
  paint();
  const wanted = VIEWS.filter(([id, , , size]) => names.includes(id) && size(page.content));
  root.append(...wanted.map((entry) => sectionOf(page, entry, wanted.length === 1)).filter(Boolean));
  const themes = new MutationObserver(paint);
  themes.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light"] });
  return () => {
    themes.disconnect();
    root.remove();
  };
}
