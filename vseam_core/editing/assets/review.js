"use strict";
const settings = JSON.parse(document.getElementById("settings").textContent);
const articles = [...document.querySelectorAll("article")];
const status = document.getElementById("status");
const decided = new Map();

function say(text) { status.textContent = text; }

async function decide(article, verdict) {
  const entry = { identifier: article.dataset.edit, verdict, comment: article.querySelector(".comment").value };
  if (settings.token) {
    try {
      const reply = await fetch("verdict", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Token": settings.token },
        body: JSON.stringify(entry),
      });
      if (!reply.ok) { say("not stored: " + (await reply.text())); return; }
    } catch (error) { say("not stored: the server does not answer; export the verdicts instead"); }
  }
  article.dataset.verdict = verdict;
  decided.set(entry.identifier, entry);
  say(decided.size + " decided" + (settings.token ? " and stored" : ", not exported yet"));
}

function move(article, step) {
  const next = articles[articles.indexOf(article) + step];
  if (next) { next.focus(); next.scrollIntoView({ block: "start" }); }
}

for (const article of articles) {
  article.querySelector(".accept").addEventListener("click", () => decide(article, "accepted"));
  article.querySelector(".reject").addEventListener("click", () => decide(article, "rejected"));
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) { return; }
  const article = document.activeElement.closest("article");
  if (event.key === "j" || event.key === "k") {
    if (article) { move(article, event.key === "j" ? 1 : -1); } else if (articles[0]) { articles[0].focus(); }
  } else if (article && (event.key === "a" || event.key === "r")) {
    decide(article, event.key === "a" ? "accepted" : "rejected").then(() => move(article, 1));
  }
});

document.getElementById("export").addEventListener("click", () => {
  const whole = { schema: settings.schema, reviewer: settings.reviewer, verdicts: [...decided.values()] };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(whole, null, 1)], { type: "application/json" }));
  link.download = "edit-verdicts.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  say(decided.size + " verdicts exported; store them with: vseam edit review --import edit-verdicts.json");
});
