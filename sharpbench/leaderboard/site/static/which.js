// The four questions: filters the evidence and shows the answer. Texts of records become text nodes only.
"use strict";
(() => {
  const SHOWN = 8; // measures of a population below the answer
  const BUDGETS = [0.1, 1, 2, 5, 10, 50];
  const data = JSON.parse(document.getElementById("data").textContent);
  const base = document.body.dataset.root.slice(0, -"board/".length);
  const at = (id) => document.getElementById(id);
  const QUESTIONS = ["model", "cost", "invariant", "population"];

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  function offer(select, entries) {
    select.replaceChildren(...entries.map(([value, text]) => make("option", { value }, text)));
  }

  const link = (page, text) => make("a", { href: base + page }, text);
  const best = (rows, key) => rows.reduce((found, row) => (found === null || key(row) < key(found) ? row : found), null);

  function sentence(row, words) {
    const price = row.cost === null ? "a cost that was not measured" : `${row.price} gradients`;
    return make("p", { class: "answer" }, `${words}: `, make("strong", {}, link(row.page, row.name)), `, tau ${row.text}, ${price}.`);
  }

  function table(rows) {
    const heads = ["measure", "tau", "rank", "gradients", "unchanged by"].map((text, index) =>
      make("th", { scope: "col", class: index > 0 && index < 4 ? "number" : "" }, make("span", {}, text)));
    const lines = rows.map((row) => make("tr", {},
      make("th", { scope: "row" }, link(row.page, row.name)),
      make("td", { class: "number" }, row.text),
      make("td", { class: "number" }, row.rank === null ? "-" : String(row.rank)),
      make("td", { class: "number" }, row.price),
      make("td", {}, row.kinds.join(", ") || "-")));
    return make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...lines));
  }

  function answer(population, place) {
    const budget = at("cost").value === "" ? Infinity : Number(at("cost").value), kind = at("invariant").value;
    const fits = data.evidence.filter((row) => row.at === place && (kind === "" || row.kinds.includes(kind))
      && (budget === Infinity || (row.cost !== null && row.cost <= budget)));
    const good = fits.filter((row) => row.predicts);
    const cheapest = best(good.filter((row) => row.cost !== null), (row) => row.cost);
    const strongest = best(good, (row) => -row.tau);
    const title = `answer-${place}`;
    const where = new URLSearchParams({ table: "correlation", population: population.slug });
    if (kind) where.set("invariant", kind);
    if (at("cost").value) where.set("cost", at("cost").value);
    const none = fits.length ? "No measure that meets these conditions predicts the gap here." : "No measure meets these conditions here.";
    const scroll = fits.length ? make("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": title }, table(fits.slice(0, SHOWN))) : null;
    const section = make("section", { class: "card", "aria-labelledby": title },
      make("h2", { id: title }, link(population.page, population.title)),
      cheapest === null ? null : sentence(cheapest, "Cheapest measure that predicts the gap"),
      strongest === null || strongest === cheapest ? null : sentence(strongest, "Highest tau"),
      strongest === null ? make("p", { class: "answer" }, none) : null,
      make("p", {}, population.verdict),
      scroll,
      make("p", { class: "note" }, `By ${population.by}. `, make("a", { href: `${base}board/index.html#${where}` }, "These measures on the board")));
    return { section, answered: strongest !== null };
  }

  function show() {
    const chosen = data.populations.map((population, place) => [population, place])
      .filter(([population]) => at("model").value === "" || population.model === at("model").value)
      .filter(([population]) => at("population").value === "" || population.slug === at("population").value);
    const found = chosen.map((each) => answer(...each)), first = found.filter((each) => each.answered);
    const sections = [...first, ...found.filter((each) => !each.answered)].map((each) => each.section);
    at("answers").replaceChildren(...(sections.length ? sections
      : [make("p", { class: "answer" }, "No published population has this network. Choose any network, or the population only.")]));
    const state = new URLSearchParams(QUESTIONS.map((name) => [name, at(name).value]).filter(([, value]) => value !== ""));
    const kept = state.toString();
    if (kept !== location.hash.slice(1)) history.replaceState(null, "", kept ? `#${kept}` : location.pathname);
  }

  function restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    for (const name of QUESTIONS) {
      at(name).value = state.get(name) || "";
      if (at(name).selectedIndex < 0) at(name).value = "";
    }
    show();
  }

  const models = [...new Set(data.populations.map((population) => population.model))];
  offer(at("model"), [["", "any network"], ...models.map((model) => [model, model])]);
  offer(at("cost"), [["", "any cost"], ...BUDGETS.map((budget) => [budget, `at most ${budget} gradient${budget === 1 ? "" : "s"}`])]);
  const words = { layer: "rescaling of layers", unit: "rescaling of units", permutation: "permutation of hidden units" };
  offer(at("invariant"), [["", "nothing is required"], ...data.kinds.map((kind) => [kind, words[kind] || kind])]);
  offer(at("population"), [["", "any population"], ...data.populations.map((population) => [population.slug, population.title])]);
  for (const name of QUESTIONS) at(name).addEventListener("change", show);
  addEventListener("hashchange", restore);
  restore();
})();
