// The script of the leaderboard's pages: tables that sort and filter, and plots. Texts of records become text nodes only.
"use strict";
(() => {
  const CHUNK = 1500; // cells that are drawn at a time
  const NEAR = 30; // pixels
  const MULTIPLES = 60; // small pictures
  const MEASURE_TIP = "the measure with its hyperparameters, or a baseline in italics; the link leads to its page";
  const BUDGETS = [0.1, 1, 2, 5, 10, 50]; // gradients
  const VIRIDIS = ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"];
  const DISTINCT = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#994455"];
  const SPACE = { left: 74, right: 16, top: 14, bottom: 46 };

  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.body.dataset.root;
  const at = (id) => document.getElementById(id);
  const facts = new Map(Object.entries(data.facts)); // name of a measure -> family, what left it unchanged, cost
  const slugs = data.boards.map((board) => board?.slug);
  const CHOICES = ["invariant", "cost", "family", "kind"]; // filters that are selects of the same id
  const state = { table: data.tables[0], text: "", board: "", sort: null, shown: [], drawn: 0, point: null, colour: "", chosen: false };

  function make(tag, attributes = {}, ...children) {
    const svg = tag.startsWith("svg:");
    const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  function breakable(text) { // lines may also end within long names
    return text.split(/(?<=:)|(?=\[)/).flatMap((part, index) => (index ? [make("wbr"), part] : [part]));
  }

  function options(select, entries, chosen) {
    select.replaceChildren(...entries.map(([value, text]) => make("option", { value }, text)));
    select.value = String(chosen);
  }

  const textOf = (cell) => (typeof cell === "string" ? cell : cell[0]);
  const sortOf = (cell) => (typeof cell === "string" ? null : cell[1]);

  // ---- tables ----

  const named = new Map(); // table -> its rows as objects, once it is looked at

  function rows() {
    if (!named.has(state.table)) named.set(state.table, state.table.rows.map((values) => {
      const row = Object.fromEntries(data.row.map((name, index) => [name, values[index]]));
      row.kind = row.page === null ? "baseline" : "measure";
      return row;
    }));
    return named.get(state.table);
  }

  function wordsOf(row) { // what a filter looks at
    row.words ??= [row.name, row.mark || "", ...row.boards.map((board) => data.boards[board]?.title || ""),
      ...row.cells.map(textOf)].join(" ").toLowerCase();
    return row.words;
  }

  function columns() { // with their places; a population's own alone, where one is chosen
    return state.table.columns.map((column, index) => ({ ...column, index }))
      .filter((column) => column.board === null || state.board === "" || String(column.board) === state.board);
  }

  function fits(row, wanted) { // family, invariance and cost, which baselines do not have
    if (wanted.kind !== "" && row.kind !== wanted.kind) return false;
    if (wanted.invariant === "" && wanted.cost === "" && wanted.family === "") return true;
    const [family, unchanged, cost] = (row.kind === "measure" && facts.get(row.name)) || ["", [], null];
    return (wanted.family === "" || family === wanted.family) && (wanted.invariant === "" || unchanged.includes(wanted.invariant))
      && (wanted.cost === "" || (cost !== null && cost <= Number(wanted.cost)));
  }

  function matching() {
    const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = Object.fromEntries(CHOICES.map((name) => [name, at(name).value]));
    return rows().filter((row) => fits(row, wanted) && (state.board === "" || row.boards.includes(Number(state.board)))
      && words.every((word) => wordsOf(row).includes(word)));
  }

  // ---- the state in the address ----

  function remember() {
    const kept = new URLSearchParams();
    const put = (name, value) => { if (value !== "" && value !== null && value !== undefined) kept.set(name, value); };
    if (state.table !== data.tables[0]) put("table", state.table.id);
    put("population", slugs[state.board]);
    put("q", state.text);
    for (const name of CHOICES) put(name, at(name).value);
    if (state.sort !== null) {
      put("sort", state.sort.index < 0 ? "measure" : state.table.columns[state.sort.index].title);
      put("order", state.sort.down ? "descending" : "ascending");
    }
    if (state.chosen && state.point !== null) {
      put("plot", data.points[state.point].label);
      put("of", slugs[data.points[state.point].board]);
    }
    const text = kept.toString();
    if (text !== location.hash.slice(1)) history.replaceState(null, "", text ? `#${text}` : location.pathname);
  }

  function restore() {
    const hash = location.hash.slice(1), kept = new URLSearchParams(hash.includes("=") ? hash : `table=${hash}`);
    state.table = data.tables.find((table) => table.id === kept.get("table")) || data.tables[0];
    const board = slugs.indexOf(kept.get("population"));
    state.board = kept.get("population") === null || board < 0 ? "" : String(board);
    at("board").value = state.board;
    at("filter").value = state.text = kept.get("q") || "";
    for (const name of CHOICES) {
      at(name).value = kept.get(name) || "";
      if (at(name).selectedIndex < 0) at(name).value = "";
    }
    const column = state.table.columns.findIndex((each) => each.title === kept.get("sort"));
    state.sort = kept.get("sort") === null || (column < 0 && kept.get("sort") !== "measure") ? null
      : { index: column, down: kept.get("order") === "descending" };
    const point = data.points.findIndex((each) => each.label === kept.get("plot") && slugs[each.board] === kept.get("of"));
    const first = data.points.findIndex((each) => String(each.board) === state.board);
    state.chosen = point >= 0;
    state.point = point >= 0 ? point : Math.max(0, first);
    show();
    plot();
  }

  // ---- what is shown, as files ----

  const guarded = (text) => (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text); // not a formula

  function save(name, type, text) {
    const address = URL.createObjectURL(new Blob([text], { type }));
    const link = make("a", { href: address, download: `${state.table.id}.${name}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  function saveCsv() {
    const quote = (text) => `"${guarded(String(text)).replaceAll('"', '""')}"`;
    const head = ["measure", ...columns().map((column) => column.title)];
    const lines = state.shown.map((row) => [row.name, ...columns().map((column) => textOf(row.cells[column.index]))]);
    save("csv", "text/csv", [head, ...lines].map((line) => line.map(quote).join(",") + "\n").join(""));
  }

  function saveJson() {
    const shown = state.shown.map((row) => ({
      measure: row.name, kind: row.kind, populations: row.boards.map((board) => slugs[board]),
      cells: columns().map((column) => ({ column: column.title, text: textOf(row.cells[column.index]), value: sortOf(row.cells[column.index]) })),
    }));
    save("json", "application/json", `${JSON.stringify(shown, null, 1)}\n`);
  }

  function sorted(rows) {
    if (state.sort === null) return rows;
    const { index, down } = state.sort;
    const numeric = index >= 0 && state.table.columns[index].number;
    const key = (row) => (index < 0 ? row.name.toLowerCase() : numeric ? sortOf(row.cells[index]) : textOf(row.cells[index]).toLowerCase());
    const absent = (value) => value === null || value === "-" || value === "";
    const keyed = rows.map((row, place) => ({ row, place, value: key(row) }));
    keyed.sort((a, b) => { // what has no value stays below, whichever way
      const missing = absent(a.value) - absent(b.value);
      if (missing || absent(a.value)) return missing || a.place - b.place;
      const order = a.value < b.value ? -1 : a.value > b.value ? 1 : 0;
      return (down ? -order : order) || a.place - b.place;
    });
    return keyed.map(({ row }) => row);
  }

  function sortBy(index, first) {
    const again = state.sort !== null && state.sort.index === index;
    state.sort = { index, down: again ? !state.sort.down : first };
    show(index);
  }

  function heading(title, tip, index, number, down) {
    const help = `help-${index}`, button = make("button", { type: "button", "aria-describedby": tip ? help : null }, ...breakable(title));
    button.addEventListener("click", () => sortBy(index, down));
    if (tip) {
      for (const kind of ["pointerenter", "focus"]) button.addEventListener(kind, () => explain(button, tip));
      for (const kind of ["pointerleave", "blur"]) button.addEventListener(kind, () => explain(null));
    }
    const sort = state.sort !== null && state.sort.index === index ? (state.sort.down ? "descending" : "ascending") : null;
    return make("th", { scope: "col", class: number ? "number" : null, "aria-sort": sort, "data-index": index }, button);
  }

  function explain(button, tip) { // what a column means, below its heading
    const place = at("column-help");
    place.hidden = button === null;
    if (button === null) return;
    place.textContent = tip;
    const box = button.getBoundingClientRect();
    place.style.left = `${Math.max(8, Math.min(box.left, document.documentElement.clientWidth - place.offsetWidth - 8))}px`;
    place.style.top = `${box.bottom + 4}px`;
  }

  function line(row) {
    const head = make("th", { scope: "row", title: row.name });
    if (row.point !== null) {
      const button = make("button", { type: "button", class: "draw", title: "plot", "aria-label": `plot ${row.name}` }, "◉");
      button.addEventListener("click", () => {
        choose(pointFor(row));
        at("plot").scrollIntoView({ block: "nearest" });
      });
      head.append(button);
    }
    head.append(row.page === null ? row.name : make("a", { href: `${root}measures/${row.page}.html` }, row.name));
    if (row.mark !== null) head.append(make("span", { class: "mark" }, row.mark));
    const cells = columns().map((column) => {
      const cell = row.cells[column.index], text = textOf(cell), value = sortOf(cell);
      const kinds = [column.number ? "number" : "", text === "-" ? "faint" : "", column.heat && value !== null ? "heat" : ""];
      const element = make("td", { class: kinds.filter(Boolean).join(" ") || null, title: text.length > 30 ? text : null }, text);
      if (column.heat && value !== null) {
        const strength = Math.round(Math.min(1, Math.abs(value)) * 45);
        element.style.setProperty("--tint", `color-mix(in srgb, var(--${value < 0 ? "negative" : "positive"}) ${strength}%, transparent)`);
      }
      return element;
    });
    const shown = row.point !== null && state.point !== null && pointFor(row) === state.point;
    return make("tr", { class: [row.kind, shown ? "shown" : ""].join(" ").trim(), "data-name": row.name }, head, ...cells);
  }

  function pointFor(row) { // of the chosen population where the row is about several
    if (state.board === "" || row.boards.length < 2) return row.point;
    const page = (point) => String(point.board) === state.board && point.label === row.name && point.page === row.page;
    const found = data.points.findIndex(page);
    return found < 0 ? row.point : found;
  }

  function more() {
    const body = at("table").querySelector("tbody");
    if (body === null || state.drawn >= state.shown.length) return;
    const end = Math.min(state.drawn + Math.max(30, Math.ceil(CHUNK / columns().length)), state.shown.length);
    body.append(...state.shown.slice(state.drawn, end).map(line));
    state.drawn = end;
  }

  function show(focus = null) {
    const place = at("table");
    state.shown = sorted(matching());
    state.drawn = 0;
    at("note").textContent = state.table.note;
    at("count").textContent = `${state.shown.length} of ${state.table.rows.length} rows`;
    const heads = columns().map((column) => heading(column.title, column.tip, column.index, column.number, column.down));
    const first = heading("measure", MEASURE_TIP, -1, false, false);
    const tips = [["-1", MEASURE_TIP], ...columns().map((column) => [column.index, column.tip])];
    const helps = tips.map(([index, tip]) => make("span", { id: `help-${index}` }, tip)); // what screen readers read
    const table = make("table", { "aria-label": state.table.title }, make("thead", {}, make("tr", {}, first, ...heads)), make("tbody"));
    const left = place.scrollLeft;
    place.replaceChildren(...(state.shown.length ? [table, make("div", { hidden: "" }, ...helps)] : [make("p", { class: "empty" }, "No row matches.")]));
    more();
    place.scrollTop = 0;
    place.scrollLeft = left;
    if (focus !== null) place.querySelector(`th[data-index="${focus}"] button`)?.focus({ preventScroll: true });
    for (const button of at("views").children) button.setAttribute("aria-pressed", String(button.dataset.id === state.table.id));
    explain(null);
    remember();
  }

  function view(id) {
    const table = data.tables.find((each) => each.id === id);
    if (table === undefined || table === state.table) return;
    state.table = table;
    state.sort = null;
    show();
    plot();
  }

  // ---- plots ----

  const priced = () => state.table.id === "speed" || state.table.id === "exactness";

  function choose(point) {
    state.point = point;
    state.chosen = true;
    remember();
    for (const row of at("table").querySelectorAll("tr.shown")) row.classList.remove("shown");
    for (const [index, row] of state.shown.slice(0, state.drawn).entries())
      if (row.point !== null && pointFor(row) === point) at("table").querySelectorAll("tbody tr")[index].classList.add("shown");
    plot();
  }

  function shade(share) { // of viridis
    const place = Math.max(0, Math.min(1, share)) * (VIRIDIS.length - 1), low = Math.min(Math.floor(place), VIRIDIS.length - 2);
    const part = (colour, channel) => parseInt(colour.slice(1 + 2 * channel, 3 + 2 * channel), 16);
    const mixed = [0, 1, 2].map((channel) => Math.round(part(VIRIDIS[low], channel) + (place - low) * (part(VIRIDIS[low + 1], channel) - part(VIRIDIS[low], channel))));
    return `rgb(${mixed.join(" ")})`;
  }

  function colours(values) { // a function of a value, and the entries of the legend
    const distinct = [...new Set(values.filter((value) => value !== null && value !== undefined))];
    const numeric = distinct.every((value) => typeof value === "number");
    if (numeric) distinct.sort((a, b) => a - b);
    else distinct.sort();
    const low = distinct[0], high = distinct[distinct.length - 1];
    const colour = numeric
      ? (value) => (typeof value === "number" ? shade(high > low ? (value - low) / (high - low) : 0.4) : "#888888")
      : (value) => DISTINCT[distinct.indexOf(value) % DISTINCT.length] || "#888888";
    const few = distinct.length <= 12 ? distinct : numeric ? [low, (low + high) / 2, high] : distinct.slice(0, 12);
    return { colour, entries: few.map((value) => [String(numeric ? tidy(value) : value), colour(value)]) };
  }

  const tidy = (value) => (value === 0 ? "0" : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(4))));

  function scale(values, from, to, log) {
    const known = log ? values.map(Math.log10) : values;
    let low = Math.min(...known), high = Math.max(...known);
    if (!(high > low)) { low -= 0.5; high += 0.5; }
    const margin = 0.05 * (high - low);
    low -= margin; high += margin;
    const place = (value) => from + (((log ? Math.log10(value) : value) - low) / (high - low)) * (to - from);
    return { place, ticks: log && high - low >= 1 ? decades(low, high) : steps(low, high, log) };
  }

  function decades(low, high) { // with 2 and 5 between, where there are few
    const every = Math.max(1, Math.ceil((high - low) / 7)), ticks = [];
    const factors = high - low <= 3 ? [1, 2, 5] : [1];
    for (let power = Math.floor(low / every) * every; power <= high; power += every)
      ticks.push(...factors.map((factor) => factor * 10 ** power).filter((tick) => tick >= 10 ** low && tick <= 10 ** high));
    return ticks;
  }

  function steps(low, high, log) {
    const [from, to] = log ? [10 ** low, 10 ** high] : [low, high];
    const rough = (to - from) / 8, unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * ([1, 2, 5, 10].find((factor) => factor * unit >= rough) || 10), ticks = [];
    for (let value = Math.ceil(from / step) * step; value <= to; value += step) ticks.push(Math.abs(value) < step / 1e6 ? 0 : value);
    return ticks;
  }

  function networks(point) { // marks of the networks on which a row has a value
    const board = data.boards[point.board];
    const names = Object.keys(board.axes);
    const { colour, entries } = colours(board.axes[state.colour] || board.gaps.map(() => null));
    const marks = [];
    point.values.forEach((value, index) => {
      const gap = board.gaps[index];
      if (value === null || gap === null) return;
      const said = names.map((name) => `${name}: ${board.axes[name][index] ?? "default"}`);
      if (board.seeds[index] !== null) said.push(`seed: ${board.seeds[index]}`);
      const out = board.out[index];
      marks.push({ page: board.pages[index], x: gap, y: value, colour: colour(board.axes[state.colour]?.[index]), hollow: out !== null,
        title: `${tidy(value)} at gap ${tidy(gap)}`, lines: [...said, ...(out === null ? [] : [`excluded: ${out}`])] });
    });
    return { marks, entries, x: "generalization gap", y: point.label, yLog: spread(marks.map((mark) => mark.y)), xLog: false };
  }

  function prices(board) { // marks of the measures of a population that were timed and checked
    const found = data.points.filter((point) => point.board === board && point.cost !== null);
    const marks = found.map((point) => ({ x: point.cost[0], y: Math.max(point.cost[1], 1e-17), colour: "var(--accent)", hollow: false,
      title: point.label, name: point.label, lines: [`${tidy(point.cost[0])} gradients`, `relative error ${point.cost[1] === 0 ? "0" : point.cost[1].toExponential(1)}`] }));
    marks.sort((a, b) => a.x - b.x || a.y - b.y);
    let best = Infinity;
    for (const mark of marks) { mark.hollow = mark.y >= best; best = Math.min(best, mark.y); }
    return { marks, entries: [], x: "cost in gradients", y: "largest relative error", xLog: true, yLog: true };
  }

  const spread = (values) => Math.min(...values) > 0 && Math.max(...values) > 10 * Math.min(...values);

  let picture = null;

  function plot() {
    const points = data.points;
    at("plot").hidden = points.length === 0;
    if (points.length === 0) return;
    if (state.point === null) state.point = 0;
    const point = points[state.point], board = data.boards[point.board], costs = priced();
    const present = [...new Set(points.map((each) => each.board))].sort((a, b) => a - b);
    options(at("plot-board"), present.map((index) => [index, data.boards[index].title]), point.board);
    const here = points.map((each, index) => [index, each]).filter(([, each]) => each.board === point.board);
    options(at("plot-row"), here.map(([index, each]) => [index, each.label]), state.point);
    const axes = Object.keys(board.axes);
    if (!axes.includes(state.colour)) state.colour = axes.includes("label_noise") ? "label_noise" : axes[0] || "";
    options(at("plot-colour"), axes.map((name) => [name, name]), state.colour);
    at("plot-row-label").hidden = costs;
    at("plot-colour-label").hidden = costs || axes.length === 0;
    at("plot-title").textContent = costs ? `Error against cost, ${board.title}` : `${point.label}, ${board.title}`;
    draw(costs ? prices(point.board) : networks(point));
    legend(costs);
    multiples(costs);
  }

  function multiples(costs) { // on the page of a measure: a small picture of each of its rows, which chooses it
    const place = at("multiples");
    if (place === null) return;
    place.hidden = costs || data.points.length < 2;
    if (place.hidden) return;
    place.replaceChildren(...data.points.slice(0, MULTIPLES).map((each, index) => {
      const title = data.points.some((other) => other !== each && other.board === each.board) ? `${each.label}, ${data.boards[each.board].title}` : data.boards[each.board].title;
      const button = make("button", { type: "button", "aria-pressed": String(index === state.point) }, miniature(each), make("span", {}, title));
      button.addEventListener("click", () => { choose(index); place.children[index].focus(); });
      return button;
    }));
  }

  function miniature(point) {
    const { marks, yLog } = networks(point), small = make("svg:svg", { viewBox: "0 0 160 96", "aria-hidden": "true" });
    if (marks.length === 0) return small;
    const x = scale(marks.map((mark) => mark.x), 4, 156, false), y = scale(marks.map((mark) => mark.y), 92, 4, yLog);
    small.append(make("svg:path", { class: "grid", d: "M4 4V92H156", fill: "none" }));
    for (const mark of marks) {
      const dot = make("svg:circle", { class: mark.hollow ? "hollow" : "dot", cx: x.place(mark.x).toFixed(1), cy: y.place(mark.y).toFixed(1), r: 2.2 });
      if (!mark.hollow) dot.style.fill = mark.colour;
      small.append(dot);
    }
    return small;
  }

  function legend(costs) {
    const entries = picture.entries.map(([text, colour]) => {
      const dot = make("i");
      dot.style.background = colour;
      return make("span", {}, dot, text);
    });
    const hollow = picture.marks.filter((mark) => mark.hollow).length;
    const words = costs ? `beaten by another in cost and error (${hollow})` : `excluded by the gate, not fitted (${hollow})`;
    if (hollow) entries.push(make("span", {}, make("i", { class: "hollow" }), words));
    if (!costs && entries.length && state.colour) entries.unshift(make("span", {}, `${state.colour}:`));
    at("legend").replaceChildren(...entries);
  }

  function draw(found) {
    const canvas = at("canvas"), width = canvas.clientWidth || 700, height = canvas.clientHeight || 420;
    picture = { ...found, active: null };
    canvas.setAttribute("viewBox", `0 0 ${width} ${height}`);
    canvas.replaceChildren();
    at("tip").hidden = true;
    if (found.marks.length === 0) {
      canvas.append(make("svg:text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "Nothing to draw here."));
      return;
    }
    const bottom = height - SPACE.bottom, right = width - SPACE.right;
    const x = scale(found.marks.map((mark) => mark.x), SPACE.left, right, found.xLog);
    const y = scale(found.marks.map((mark) => mark.y), bottom, SPACE.top, found.yLog);
    for (const tick of x.ticks) canvas.append(
      make("svg:line", { class: "grid", x1: x.place(tick), x2: x.place(tick), y1: SPACE.top, y2: bottom }),
      make("svg:text", { x: x.place(tick), y: bottom + 18, "text-anchor": "middle" }, tidy(tick)));
    for (const tick of y.ticks) canvas.append(
      make("svg:line", { class: "grid", x1: SPACE.left, x2: right, y1: y.place(tick), y2: y.place(tick) }),
      make("svg:text", { x: SPACE.left - 8, y: y.place(tick) + 4, "text-anchor": "end" }, tidy(tick)));
    const middle = (SPACE.top + bottom) / 2, short = found.y.length > 44 ? `${found.y.slice(0, 43)}…` : found.y;
    canvas.append(make("svg:text", { x: (SPACE.left + right) / 2, y: height - 8, "text-anchor": "middle" }, found.x),
      make("svg:text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, short));
    for (const mark of found.marks) {
      mark.px = x.place(mark.x);
      mark.py = y.place(mark.y);
      mark.element = make("svg:circle", { class: mark.hollow ? "hollow" : "dot", cx: mark.px, cy: mark.py, r: 5 });
      if (!mark.hollow) mark.element.style.fill = mark.colour;
      canvas.append(mark.element);
      if (mark.name === undefined) continue;
      const end = mark.px > 0.8 * width, name = mark.name.length > 30 ? `${mark.name.slice(0, 29)}…` : mark.name;
      canvas.append(make("svg:text", { x: mark.px + (end ? -9 : 9), y: mark.py + 4, "text-anchor": end ? "end" : "start" }, name));
    }
    picture.marks = [...found.marks].sort((a, b) => a.px - b.px || a.py - b.py);
  }

  function point(mark) {
    const tip = at("tip"), canvas = at("canvas");
    picture.active?.element.classList.remove("active");
    picture.active = mark;
    tip.hidden = mark === null;
    if (mark === null) return;
    mark.element.classList.add("active");
    canvas.append(mark.element); // above the others
    tip.replaceChildren(make("strong", {}, mark.title), ...mark.lines.map((text) => make("span", {}, text)));
    const wide = canvas.clientWidth, left = mark.px + 14 + tip.offsetWidth > wide ? mark.px - 14 - tip.offsetWidth : mark.px + 14;
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${Math.max(0, mark.py - tip.offsetHeight - 8)}px`;
  }

  function nearest(event) {
    const box = at("canvas").getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = null, least = NEAR ** 2;
    for (const mark of picture.marks) {
      const far = (mark.px - x) ** 2 + (mark.py - y) ** 2;
      if (far < least) { least = far; best = mark; }
    }
    if (best !== picture.active) point(best);
  }

  function open() { // the page of the network that is pointed at
    if (picture.active?.page) location.href = `${root}networks/${picture.active.page}.html`;
  }

  function step(event) {
    const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (event.key === "Escape") point(null);
    if (event.key === "Enter") open();
    if (by === undefined || picture.marks.length === 0) return;
    event.preventDefault();
    const count = picture.marks.length, now = picture.marks.indexOf(picture.active);
    point(picture.marks[now < 0 ? (by > 0 ? 0 : count - 1) : (now + by + count) % count]);
  }

  // ---- all together ----

  at("views").append(...data.tables.map((table) => {
    const button = make("button", { type: "button", "data-id": table.id }, table.title);
    button.addEventListener("click", () => view(table.id));
    return button;
  }));
  const boards = data.boards.map((board, index) => [index, board]).filter(([, board]) => board !== null);
  options(at("board"), [["", "all populations"], ...boards.map(([index, board]) => [index, board.title])], "");
  const page = data.row.indexOf("page");
  at("kind").parentElement.hidden = !data.tables.some((table) => table.rows.some((row) => row[page] === null));
  at("board").parentElement.hidden = boards.length < 2;
  at("filter").addEventListener("input", (event) => { state.text = event.target.value; show(); });
  const known = [...facts.values()];
  const families = [...new Set(known.map(([family]) => family))].sort();
  const kinds = [...new Set(known.flatMap(([, unchanged]) => unchanged))];
  options(at("family"), [["", "all families"], ...families.map((family) => [family, family])], "");
  options(at("invariant"), [["", "anything"], ...kinds.map((kind) => [kind, kind])], "");
  options(at("cost"), [["", "any"], ...BUDGETS.map((budget) => [budget, `at most ${budget} gradient${budget === 1 ? "" : "s"}`])], "");
  for (const name of ["family", "invariant", "cost"]) at(name).parentElement.hidden = known.length < 2;
  for (const name of CHOICES) at(name).addEventListener("change", () => show());
  at("csv").addEventListener("click", saveCsv);
  at("json").addEventListener("click", saveJson);
  addEventListener("keydown", (event) => { if (event.key === "Escape") explain(null); });
  addEventListener("scroll", () => explain(null), { passive: true });
  at("board").addEventListener("change", (event) => {
    state.board = event.target.value;
    const first = data.points.findIndex((each) => String(each.board) === state.board);
    if (first >= 0) state.point = first;
    state.chosen = false;
    show();
    plot();
  });
  at("table").addEventListener("scroll", () => {
    const place = at("table");
    if (place.scrollTop + place.clientHeight > place.scrollHeight - 400) more();
  }, { passive: true });
  at("plot-board").addEventListener("change", (event) => choose(data.points.findIndex((each) => String(each.board) === event.target.value)));
  at("plot-row").addEventListener("change", (event) => choose(Number(event.target.value)));
  at("plot-colour").addEventListener("change", (event) => { state.colour = event.target.value; plot(); });
  at("canvas").addEventListener("pointermove", nearest);
  at("canvas").addEventListener("pointerdown", nearest);
  at("canvas").addEventListener("click", (event) => { if (event.detail > 0) open(); });
  at("canvas").addEventListener("pointerleave", () => point(null));
  at("canvas").addEventListener("keydown", step);
  at("canvas").addEventListener("blur", () => point(null));
  window.addEventListener("hashchange", restore);
  window.addEventListener("resize", () => plot());
  restore();
})();
