// What stands round a plot: its legend, its numbers as a table, and what mouse and keys do.

const MANY = 14;

/** Of many series those that have all the words; few are told apart by their buttons alone. */
function finder(plot) {
  const input = el("input", { type: "search", placeholder: "words of their names", on: { input: () => { drawLegend(plot); plot.draw(); } } });
  return el("div", { class: "bar", hidden: true }, el("label", {}, el("span", {}, "Show only"), input));
}

function sought(plot, name) {
  if (plot.find.hidden) return true;
  const words = plot.find.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => name.toLowerCase().includes(word));
}

function drawLegend(plot) {
  const many = plot.what.series.length > MANY;
  plot.find.hidden = !many;
  const keys = plot.what.series.filter((series) => sought(plot, series.name)).map((series) => {
    const sample = svg("svg", { width: 30, height: 14, viewBox: "0 0 30 14", "aria-hidden": true });
    if (series.line) {
      sample.append(svg("line", { x1: 1, x2: 29, y1: 7, y2: 7, stroke: series.colour, "stroke-width": 2, "stroke-dasharray": series.dash }));
    }
    if (series.shape) {
      sample.append(shape(series.shape, 4.5, {
        stroke: series.colour, fill: series.hollow ? "var(--page)" : series.colour, transform: "translate(15 7)",
      }));
    }
    return el("button", {
      type: "button", "aria-pressed": !plot.hidden.has(series.name) ? "true" : "false",
      on: { click: (event) => toggle(plot, series.name, event.currentTarget) },
    }, sample, series.name);
  });
  plot.keys.replaceChildren(...(plot.what.series.length > 1 ? keys : []));
  plot.keys.classList.toggle("many", many);
}

function toggle(plot, name, button) {
  const hide = !plot.hidden.has(name);
  if (hide) plot.hidden.add(name);
  else plot.hidden.delete(name);
  button.setAttribute("aria-pressed", hide ? "false" : "true");
  plot.draw();
}

/** The points of a plot as a table, made when it is opened. */
function numbersOf(shown) {
  const details = el("details", { class: "numbers" }, el("summary", {}, "Numbers"));
  details.addEventListener("toggle", () => {
    details.querySelector(".scroll")?.remove();
    if (!details.open) return;
    const rows = shown().flatMap((series) => series.points.map((p) => el("tr", {},
      el("td", { class: "field" }, series.name), ...[p.x, p.y, p.low, p.high].map((v) => el("td", {}, short(v))))));
    const head = ["series", "x", "y", "lowest seed", "highest seed"];
    details.append(el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Numbers of the plot" },
      el("table", {}, el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col" }, text)))),
        el("tbody", {}, ...rows))));
  });
  return details;
}

function listen(plot) {
  let start = null;
  const place = (event) => {
    const frame = plot.svg.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };
  plot.svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    start = place(event);
    plot.svg.setPointerCapture(event.pointerId);
  });
  plot.svg.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    if (start) drawBox(plot, start, [x, y]);
    else plot.read(nearest(plot, x, y));
  });
  plot.svg.addEventListener("pointerup", (event) => {
    if (start) zoomTo(plot, start, place(event));
    start = null;
  });
  plot.svg.addEventListener("pointercancel", () => {
    start = null;
    plot.box.setAttribute("visibility", "hidden");
  });
  plot.svg.addEventListener("dblclick", () => plot.reset());
  plot.svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    plot.zoom(event.deltaY < 0 ? 0.85 : 1 / 0.85);
  }, { passive: false });
  plot.svg.addEventListener("keydown", (event) => pressed(plot, event));
}

function drawBox(plot, [x0, y0], [x1, y1]) {
  const sizes = { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) };
  for (const [name, value] of Object.entries(sizes)) plot.box.setAttribute(name, value);
  plot.box.setAttribute("visibility", "visible");
}

/** Zoom to a box that was drawn; a click is no box, and says what is there. */
function zoomTo(plot, [x0, y0], [x1, y1]) {
  plot.box.setAttribute("visibility", "hidden");
  if (Math.abs(x1 - x0) < 8 || Math.abs(y1 - y0) < 8) {
    plot.read(nearest(plot, x1, y1, 40));
    return;
  }
  const inside = (scale, ...ends) => ends.map((end) => scale.value(end));
  plot.view = [inside(plot.x, Math.min(x0, x1), Math.max(x0, x1)), inside(plot.y, Math.max(y0, y1), Math.min(y0, y1))];
  plot.draw();
}

function nearest(plot, x, y, reach = 24) {
  let best = null;
  let least = reach;
  for (const point of plot.points()) {
    const far = Math.hypot(plot.x.place(point.x) - x, plot.y.place(point.y) - y);
    if (far < least) [best, least] = [point, far];
  }
  return best;
}

function pressed(plot, event) {
  const step = (by) => {
    const points = plot.points();
    if (points.length) plot.read(points[(points.indexOf(plot.at) + by + points.length) % points.length]);
  };
  const acts = {
    ArrowLeft: () => plot.pan(-0.15, 0), ArrowRight: () => plot.pan(0.15, 0),
    ArrowUp: () => plot.pan(0, 0.15), ArrowDown: () => plot.pan(0, -0.15),
    "+": () => plot.zoom(0.8), "=": () => plot.zoom(0.8), "-": () => plot.zoom(1.25),
    0: () => plot.reset(), n: () => step(1), p: () => step(-1),
  };
  if (!acts[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  acts[event.key]();
}
