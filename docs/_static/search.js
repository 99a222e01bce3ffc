// The search page answers at once. Sphinx hands out one result after another by a timer, which a browser slows down in a tab behind others, and
// heads the page "Searching" until the last one is there; without its index that is for good.

if (typeof Search !== "undefined") {
  const end = (heading, words) => {
    Search.title.textContent = heading;
    Search.status.textContent = words;
  };
  Search.startPulse = () => {};
  Search.query = (query) => {
    const [text, terms, excluded, highlighted, objects] = Search._parseQuery(query);
    // The best one is the last.
    const results = Search._performSearch(text, terms, excluded, highlighted, objects).reverse();
    for (const result of results) _displayItem(result, terms, highlighted);
    if (results.length) end("Search results", `${results.length} ${results.length === 1 ? "place has" : "places have"} “${text}”, the best first.`);
    else end("Nothing found", `No page has all words of “${text}”.`);
  };
  // Scripts run in their order: what is not loaded when a search begins is not there.
  Search.deferQuery = () => end("Search is not possible here", "The index, searchindex.js, does not lie beside this page.");
  // A narrow window hides the field of the navigation.
  const form = document.createElement("form");
  const field = Object.assign(document.createElement("input"), { type: "search", name: "q" });
  field.setAttribute("aria-label", "Search the documentation");
  form.append(field, Object.assign(document.createElement("button"), { textContent: "Search" }));
  form.className = "search-again";
  document.getElementById("search-results").before(form);
}
