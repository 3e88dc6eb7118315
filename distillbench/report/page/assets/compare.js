// Two rows' samples of one prompt and noise: side by side, under a slider, blinking, or subtracted.

const MODES = [["beside", "side by side"], ["slider", "slider"], ["blink", "blink"], ["difference", "difference"]];
const BLINK_MS = 600;

function openCompare(set, metrics, places, at, a, b) {
  const state = { at, rows: [a, b], mode: set.rows.length > 1 ? "slider" : "beside", second: false };
  const stage = el("div", { class: "stage" });
  const told = el("div", { class: "told" });
  const title = el("h3", { id: "compare-title" });
  const slider = el("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "Where A ends and B begins",
    on: { input: () => stage.style.setProperty("--cut", `${slider.value}%`) } });
  const swap = el("button", { type: "button", on: { click: () => { state.second = !state.second; blink(); } } }, "Swap (space)");
  const names = set.rows.map((row, n) => [n, row.label]);
  const pick = (n) => (value) => { state.rows[n] = Number(value); show(); };
  const dialog = el("dialog", { "aria-labelledby": "compare-title" },
    el("form", { method: "dialog" }, title, el("button", { "aria-label": "Close" }, "\u00d7")),
    el("div", { class: "bar" }, select("A", names, a, pick(0)).field, select("B", names, b, pick(1)).field,
      select("Mode", MODES, state.mode, (mode) => { state.mode = mode; show(); }).field),
    stage, el("div", { class: "bar" }, slider, swap), told,
    el("div", { class: "bar" },
      el("button", { type: "button", on: { click: () => move(-1) } }, "\u2190 Previous"),
      el("button", { type: "button", on: { click: () => move(1) } }, "Next \u2192")));

  function show() {
    const place = places[state.at];
    title.textContent = set.prompts[place];
    stage.className = `stage ${state.mode}`;
    stage.style.setProperty("--cut", `${slider.value}%`);
    stage.replaceChildren(...state.rows.map((row, n) => el("figure", {},
      drawingOf(set, row, place, true), el("figcaption", {}, `${"AB"[n]}: ${set.rows[row].label}`))));
    slider.hidden = state.mode !== "slider";
    swap.hidden = state.mode !== "blink";
    told.replaceChildren(scoresTable(set, metrics, state.rows, place));
    blink();
  }

  function blink() {
    stage.classList.toggle("second", state.second);
  }

  function move(by) {
    state.at = (state.at + by + places.length) % places.length;
    show();
  }

  const timer = CALM ? null : setInterval(() => {
    if (state.mode !== "blink") return;
    state.second = !state.second;
    blink();
  }, BLINK_MS);
  dialog.addEventListener("keydown", (event) => {
    if (["SELECT", "INPUT"].includes(event.target.tagName)) return;
    if (event.key === "ArrowRight") move(1);
    else if (event.key === "ArrowLeft") move(-1);
    else if (event.key === " " && state.mode === "blink") swap.click();
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("close", () => { clearInterval(timer); dialog.remove(); });
  document.body.append(dialog);
  show();
  dialog.showModal();
}

function scoresTable(set, metrics, rows, place) {
  const lines = metrics.map((metric) => {
    const [a, b] = rows.map((n) => set.rows[n].scores[metric.id]?.[place] ?? null);
    const difference = a === null || b === null ? null : a - b;
    return el("tr", {}, el("th", { scope: "row", class: "field" }, metric.label),
      ...[a, b, difference].map((value) => el("td", {}, short(value))));
  });
  if (!lines.length) return el("p", { class: "note" }, "No metric scores single samples.");
  return el("table", {}, el("thead", {}, el("tr", {}, ...["score", "A", "B", "A \u2212 B"].map((t) => el("th", { scope: "col" }, t)))),
    el("tbody", {}, ...lines));
}
