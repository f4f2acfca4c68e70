// The four questions: filters the evidence and shows the answer. Texts of records become text nodes only.
"use strict";
(() => {
  const SHOWN = 8; // measures of a population below the answer
  const BUDGETS = [0.1, 1, 2, 5, 10, 50];
  const data = JSON.parse(document.getElementById("data").textContent);
  const base = document.body.dataset.root.slice(0, -"board/".length);
  const at = (id) => document.getElementById(id);
  const QUESTIONS = ["population", "cost", "invariant", "outcome"];
  const GAP = "gap", MODEL = "model:"; // the outcome that ranks; a choice of all populations of one model

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

  const outcome = () => at("outcome").value || GAP;
  const predicted = () => (outcome() === GAP ? "the gap" : outcome());
  const statistic = () => (outcome() === GAP ? "tau" : "Psi");
  const number = (row) => row.by[outcome()][0];

  function sentence(row, words) {
    const price = row.cost === null ? "a cost that was not measured" : `${row.price} gradients`;
    return make("p", { class: "answer" }, `${words}: `, make("strong", {}, link(row.page, row.name)), `, ${statistic()} ${row.by[outcome()][1]}, ${price}.`);
  }

  function table(rows) {
    const ranked = outcome() === GAP; // ranks are by the gap
    const cell = (text) => make("td", { class: "number" }, text);
    const heads = ["measure", statistic(), ...(ranked ? ["rank"] : []), "gradients", "unchanged by"];
    const last = heads.length - 1;
    const lines = rows.map((row) => make("tr", {},
      make("th", { scope: "row" }, link(row.page, row.name)),
      cell(row.by[outcome()][1]),
      ranked ? cell(row.rank === null ? "-" : String(row.rank)) : null,
      cell(row.price),
      make("td", {}, row.kinds.join(", ") || "-")));
    const titles = heads.map((text, index) => make("th", { scope: "col", class: index > 0 && index < last ? "number" : "" }, make("span", {}, text)));
    return make("table", {}, make("thead", {}, make("tr", {}, ...titles)), make("tbody", {}, ...lines));
  }

  function answer(population, place) {
    const budget = at("cost").value === "" ? Infinity : Number(at("cost").value), kind = at("invariant").value;
    const known = data.evidence.filter((row) => row.at === place && outcome() in row.by);
    const fits = known.filter((row) => (kind === "" || row.kinds.includes(kind))
      && (budget === Infinity || (row.cost !== null && row.cost <= budget))).sort((one, other) => number(other) - number(one));
    const good = fits.filter((row) => row.by[outcome()][2]);
    const cheapest = best(good.filter((row) => row.cost !== null), (row) => row.cost);
    const strongest = best(good, (row) => -number(row));
    const title = `answer-${place}`;
    const where = new URLSearchParams({ table: "correlation", population: population.slug });
    if (kind) where.set("invariant", kind);
    if (at("cost").value) where.set("cost", at("cost").value);
    const none = fits.length ? `No measure that meets these conditions predicts ${predicted()} here.`
      : known.length ? "No measure meets these conditions here." : `The records of these networks do not state ${predicted()}.`;
    const scroll = fits.length ? make("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": title }, table(fits.slice(0, SHOWN))) : null;
    const section = make("section", { class: "card", "aria-labelledby": title },
      make("h2", { id: title }, link(population.page, population.title)),
      cheapest === null ? null : sentence(cheapest, `Cheapest measure that predicts ${predicted()}`),
      strongest === null || strongest === cheapest ? null : sentence(strongest, `Highest ${statistic()}`),
      strongest === null ? make("p", { class: "answer" }, none) : null,
      outcome() === GAP ? make("p", {}, population.verdict) : null,
      scroll,
      make("p", { class: "note" }, outcome() === GAP ? `By ${population.by}. ` : `By Psi with ${outcome()}. `, make("a", { href: `${base}board/index.html#${where}` }, "These measures on the board")));
    return { section, answered: strongest !== null };
  }

  function show() {
    const wanted = at("population").value;
    const chosen = data.populations.map((population, place) => [population, place])
      .filter(([population]) => wanted === "" || wanted === population.slug || wanted === MODEL + population.model);
    const found = chosen.map((each) => answer(...each)), first = found.filter((each) => each.answered);
    const sections = [...first, ...found.filter((each) => !each.answered)].map((each) => each.section);
    at("answers").replaceChildren(...sections);
    const state = new URLSearchParams(QUESTIONS.map((name) => [name, at(name).value]).filter(([, value]) => value !== ""));
    const kept = state.toString();
    if (kept !== location.hash.slice(1)) history.replaceState(null, "", kept ? `#${kept}` : location.pathname);
  }

  function restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    if (state.has("model") && !state.has("population")) state.set("population", MODEL + state.get("model")); // of older links
    for (const name of QUESTIONS) {
      at(name).value = state.get(name) || "";
      if (at(name).selectedIndex < 0) at(name).value = "";
    }
    show();
  }

  const models = [...new Set(data.populations.map((population) => population.model))];
  offer(at("cost"), [["", "any cost"], ...BUDGETS.map((budget) => [budget, `at most ${budget} gradient${budget === 1 ? "" : "s"}`])]);
  const words = { layer: "rescaling of layers", unit: "rescaling of units", permutation: "permutation of hidden units" };
  offer(at("invariant"), [["", "nothing is required"], ...data.kinds.map((kind) => [kind, words[kind] || kind])]);
  const named = (label, entries) => {
    const group = make("optgroup", { label });
    offer(group, entries);
    return group;
  };
  offer(at("population"), [["", "any networks"]]);
  at("population").append(
    named("a network, on any data", models.map((model) => [MODEL + model, model])),
    named("a published population", data.populations.map((population) => [population.slug, population.title])));
  const outcomes = { gap: "the generalization gap", "loss-gap": "the gap of the losses" };
  offer(at("outcome"), data.outcomes.map((name) => [name === GAP ? "" : name, outcomes[name] || name]));
  for (const name of QUESTIONS) at(name).addEventListener("change", show);
  addEventListener("hashchange", restore);
  restore();
})();
