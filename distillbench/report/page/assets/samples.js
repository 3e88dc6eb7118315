// Samples side by side: a card for each prompt, a tile for each row, the same noise in all of them.

const AT_ONCE = 24;

function startSamples(host) {
  const sets = DATA.samples.filter((set) => set.rows);
  const body = el("div");
  if (sets.length > 1) {
    const options = sets.map((set, n) => [n, `${set.label}, ${set.of} samples, seed ${set.seed}`]);
    host.append(el("div", { class: "bar" }, select("Samples of", options, 0, (n) => open(sets[n])).field));
  }
  host.append(body);
  const open = (set) => { body.replaceChildren(); startSet(body, set); };
  open(sets[0]);
}

function startSet(host, set) {
  const state = { words: "", category: "", order: "place", a: 0, b: Math.min(1, set.rows.length - 1), shown: AT_ONCE,
    rows: new Set([...set.rows.keys()].slice(0, 12)) };
  const cards = el("div", { class: "cards" });
  const said = el("p", { class: "note", role: "status" });
  const more = el("button", { type: "button", on: { click: () => { state.shown += AT_ONCE; show(); } } }, "Show more");
  const metrics = DATA.metrics.filter((m) => set.rows.some((row) => row.scores[m.id]));
  const change = (name, read = (v) => v) => (value) => { state[name] = read(value); state.shown = AT_ONCE; show(); };
  cards.style.setProperty("--card", `${Math.min(set.rows.length, 8) * 7.5 + 1.6}rem`);
  host.append(sampleBar(set, state, metrics, change), rowChoice(set, state, () => show()), said, cards, more);

  const clips = set.rows.some((row) => row.pictures.some((made) => made.moves));
  function show() {
    const places = placesOf(set, state);
    const whole = set.kind === "points" || set.prompts.length === set.of;
    const part = whole ? "" : `; the page holds ${set.prompts.length} of ${set.of}: of every category, and where rows differ most`;
    said.textContent = `${places.length} prompts${part}. Choose ${clips ? "a clip to compare it with another row's; a clip plays where you point" : "a picture to compare it with another row's"}.`;
    cards.replaceChildren(...places.slice(0, state.shown).map((place) => card(set, state, metrics, place, places)));
    more.hidden = places.length <= state.shown;
  }
  show();
}

function sampleBar(set, state, metrics, change) {
  const bar = el("div", { class: "bar" });
  const input = el("input", { type: "search", placeholder: "words of the prompt", on: { input: () => change("words")(input.value) } });
  bar.append(el("label", {}, el("span", {}, "Prompt"), input));
  const categories = unique(set.categories).filter(Boolean);
  if (categories.length > 1) {
    bar.append(select("Category", [["", "all"], ...categories.map((c) => [c, c])], "", change("category")).field);
  }
  if (metrics.length && set.rows.length > 1) {
    const orders = metrics.flatMap((m) => [
      [`most ${m.id}`, `${m.label}: A above B most`], [`least ${m.id}`, `${m.label}: A below B most`],
    ]);
    const names = set.rows.map((row, n) => [n, row.label]);
    bar.append(
      select("Order", [["place", "as sampled"], ...orders], "place", change("order")).field,
      select("A", names, state.a, change("a", Number)).field, select("B", names, state.b, change("b", Number)).field);
  }
  return bar;
}

/** Which rows the cards show; needed where there are many. */
function rowChoice(set, state, changed) {
  const boxes = set.rows.map((row, n) => checkbox(row.label, state.rows.has(n), (on) => {
    if (on) state.rows.add(n);
    else state.rows.delete(n);
    changed();
  }).field);
  return el("details", { class: "choice" }, el("summary", {}, `Rows shown (${set.rows.length})`), ...boxes);
}

/** Positions that fit the filters, in the order asked for. */
function placesOf(set, state) {
  const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (place) => (!state.category || set.categories[place] === state.category) &&
    words.every((word) => set.prompts[place].toLowerCase().includes(word));
  const places = [...set.prompts.keys()].filter(fits);
  if (state.order === "place") return places;
  const [way, metric] = state.order.split(" ");
  const sign = way === "most" ? -1 : 1;
  return places.map((place) => [differenceAt(set, state, metric, place), place])
    .filter(([difference]) => difference !== null)
    .sort((x, y) => sign * (x[0] - y[0])).map(([, place]) => place);
}

function differenceAt(set, state, metric, place) {
  const [a, b] = [state.a, state.b].map((n) => set.rows[n].scores[metric]?.[place] ?? null);
  return a === null || b === null ? null : a - b;
}

function card(set, state, metrics, place, places) {
  const category = set.categories[place] ? el("span", { class: "note" }, ` ${set.categories[place]}`) : null;
  const tiles = [...set.rows.keys()].filter((n) => state.rows.has(n)).map((n) => tile(set, n, place, () => {
    openCompare(set, metrics, places, places.indexOf(place), n, n === state.a ? state.b : state.a);
  }));
  const difference = state.order === "place" ? null : differenceAt(set, state, state.order.split(" ")[1], place);
  return el("section", { class: "card" }, el("h3", {}, set.prompts[place], category),
    difference === null ? null : el("p", { class: "note" }, `A \u2212 B: ${short(difference)}`),
    el("div", { class: "tiles" }, ...tiles));
}

function tile(set, row, place, chosen) {
  const made = el("button", { type: "button", class: "tile", on: { click: chosen } },
    drawingOf(set, row, place), el("span", {}, set.rows[row].label));
  return playOver(made, set.rows[row].pictures[place]);
}
