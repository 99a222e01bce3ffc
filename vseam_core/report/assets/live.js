// On a page that vseam serves: says when there is more in the database, and draws the page again on request.

import { element } from "./dom.js";

const SECONDS = 5;

/** Asks the page's server now and then whether its state is still the page's. */
export function followServer(page) {
  if (!page.content.live || !location.protocol.startsWith("http")) return;
  const button = element("button", { type: "button", class: "more", hidden: true, onclick: () => location.reload() }, "There is more: draw it");
  document.querySelector(".contents").append(button);
  const ask = async () => {
    try {
      const reply = await fetch(`state${location.search}`);
      const { state } = await reply.json();
      button.hidden = state === page.content.live;
    } catch {
      button.hidden = true;
    }
    setTimeout(ask, 1000 * SECONDS);
  };
  setTimeout(ask, 1000 * SECONDS);
}
