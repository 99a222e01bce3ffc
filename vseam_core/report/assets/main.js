// Puts the views into the page, each when it comes near the window, and leads links to what they name.

import { Page } from "./data.js";
import { element } from "./dom.js";
import { followServer } from "./live.js";
import { VIEWS } from "./views.js";

function section(page, [id, title, view]) {
  const place = element("div", { class: "view" });
  const whole = element("section", { id, "aria-labelledby": `${id}-title` }, element("h2", { id: `${id}-title` }, title), place);
  whole.build = () => {
    if (whole.built) return;
    whole.built = true;
    whole.classList.add("built");
    const made = view(page);
    if (made) place.append(made);
    else whole.remove();
  };
  return whole;
}

function follow(page, sections) {
  const [id, query] = decodeURI(location.hash.slice(1)).split("?");
  const target = sections.find((part) => part.id === id);
  if (!target) return;
  target.build();
  if (query) page.select(Object.fromEntries(new URLSearchParams(query)), "link");
  target.scrollIntoView();
}

function themeButton() {
  const themes = ["", "light", "dark"], words = { "": "Colours: as the system", light: "Colours: light", dark: "Colours: dark" };
  const button = element("button", { type: "button", class: "theme", onclick: () => {
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "") + 1) % themes.length];
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    button.textContent = words[next];
    dispatchEvent(new Event("themechange"));
  } }, words[""]);
  return button;
}

/** Builds the whole page from its data. */
export function start(page, root) {
  const sections = VIEWS.filter(([, , , size]) => size(page.content)).map((entry) => section(page, entry));
  const links = sections.map((part) => element("a", { href: `#${part.id}` }, part.querySelector("h2").textContent));
  root.append(element("nav", { class: "contents", "aria-label": "Contents" }, links, themeButton()), element("div", { class: "views" }, sections));
  sections[0]?.build();
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) entry.target.build();
  }, { rootMargin: "600px" });
  sections.forEach((part) => near.observe(part));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themechange")));
  addEventListener("hashchange", () => follow(page, sections));
  addEventListener("beforeprint", () => sections.forEach((part) => part.build()));
  follow(page, sections);
  followServer(page);
}

if (document.getElementById("page")) start(new Page(), document.querySelector("main"));
