// A plot with two axes that can be zoomed with mouse, fingers, buttons and keys.

const PAD = { left: 58, right: 14, top: 10, bottom: 44 };
const SHAPES = {
  circle: (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  square: (r) => `M${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  up: (r) => `M0 ${-1.2 * r}L${1.15 * r} ${r}H${-1.15 * r}z`,
  diamond: (r) => `M0 ${-1.35 * r}L${1.35 * r} 0L0 ${1.35 * r}L${-1.35 * r} 0z`,
  down: (r) => `M0 ${1.2 * r}L${1.15 * r} ${-r}H${-1.15 * r}z`,
  plus: (r) => `M${-r / 2.5} ${-r}h${r / 1.25}v${r / 1.667}h${r / 1.667}v${r / 1.25}h${-r / 1.667}` +
    `v${r / 1.667}h${-r / 1.25}v${-r / 1.667}h${-r / 1.667}v${-r / 1.25}h${r / 1.667}z`,
  cross: (r) => `M${-r} ${-r}L${r} ${r}M${r} ${-r}L${-r} ${r}`,
};
const DASHES = ["", "7 4", "2 3", "9 3 2 3"];
const KEYS = "Arrow keys move, + and - zoom, 0 shows all, n and p step through the points.";

/** How series number `n` looks: colour first, then shape and dashes, so that no two are alike. */
function look(n) {
  const again = Math.floor(n / DATA.colours.length);
  const shapes = Object.keys(SHAPES);
  const colour = DATA.colours[n % DATA.colours.length];
  return {
    colour: colour === "#000000" ? "currentColor" : colour,
    shape: shapes[(n + again) % shapes.length], dash: DASHES[again % DASHES.length],
  };
}

function shape(name, size, attributes) {
  const open = name === "cross" ? { "stroke-width": 2, fill: "none" } : {};
  return svg("path", { d: SHAPES[name](size), ...attributes, ...open });
}

class Plot {
  constructor(host, label) {
    this.reading = el("output", { class: "reading note" }, KEYS);
    this.svg = svg("svg", { class: "plot", tabindex: 0, role: "group", "aria-label": `${label}. ${KEYS}` });
    this.keys = el("div", { class: "legend" });
    this.find = finder(this);
    this.view = null;
    this.hidden = new Set();
    const button = (text, title, act) => el("button", { type: "button", title, "aria-label": title, on: { click: act } }, text);
    this.bar = el("div", { class: "zoom" },
      button("+", "Zoom in", () => this.zoom(0.6)), button("\u2212", "Zoom out", () => this.zoom(1 / 0.6)),
      button("All", "Show all", () => this.reset()));
    this.numbers = numbersOf(() => this.shown());
    host.append(el("div", { class: "frame" }, this.svg), el("div", { class: "under" }, this.reading, this.bar), this.find, this.keys, this.numbers);
    listen(this);
    new ResizeObserver(() => this.draw()).observe(host);
  }

  /** `what`: {x, y: {label, log}, series: [{name, points, ...look, line, band}], levels, front}. */
  show(what, keepView = false) {
    this.what = what;
    if (!keepView) this.view = null;
    this.hidden = new Set([...this.hidden].filter((name) => what.series.some((s) => s.name === name)));
    drawLegend(this);
    this.numbers.open = false;
    this.draw();
  }

  shown() {
    return this.what.series.filter((series) => !this.hidden.has(series.name) && sought(this, series.name));
  }

  reset() {
    this.view = null;
    this.draw();
  }

  /** The part of the axes that is seen: [[x low, x high], [y low, y high]]. */
  area() {
    if (this.view) return this.view;
    const points = this.shown().flatMap((series) => series.points);
    const heights = points.flatMap((p) => [p.y, p.low ?? p.y, p.high ?? p.y]);
    const levels = (this.what.levels ?? []).map((level) => level.y);
    return [extent(points.map((p) => p.x), this.what.x.log), extent([...heights, ...levels], this.what.y.log)];
  }

  draw() {
    const width = this.svg.parentNode.clientWidth;
    if (!this.what || !width) return;
    const height = Math.round(Math.max(230, Math.min(420, width * 0.55)));
    const [xs, ys] = this.area();
    this.x = new Scale(xs, [PAD.left, width - PAD.right], this.what.x.log);
    this.y = new Scale(ys, [height - PAD.bottom, PAD.top], this.what.y.log);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.style.height = `${height}px`;
    const clip = `clip-${Plot.count = (Plot.count ?? 0) + 1}`;
    const inside = svg("g", { "clip-path": `url(#${clip})` });
    this.svg.replaceChildren(
      svg("clipPath", { id: clip }, svg("rect", {
        x: PAD.left, y: PAD.top, width: Math.max(1, width - PAD.left - PAD.right), height: height - PAD.top - PAD.bottom,
      })), ...axes(this, width, height), inside);
    for (const level of this.what.levels ?? []) inside.append(drawLevel(this, level));
    this.svg.classList.toggle("crowd", this.shown().length > MANY);
    for (const series of this.shown()) inside.append(series.drawn = drawSeries(this, series, svg("g")));
    if (this.what.front) drawFront(this, inside);
    inside.append(drawTags(this, this.points().filter((p) => p.text)));
    this.ring = svg("circle", { r: 9, class: "ring", visibility: "hidden" });
    this.box = svg("rect", { class: "box", visibility: "hidden" });
    this.svg.append(this.ring, this.box);
    if (!this.shown().some((series) => series.points.length)) {
      this.svg.append(svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing measured yet"));
    }
  }

  zoom(factor) {
    const [xs, ys] = [this.x, this.y].map((scale) => {
      const middle = (scale.range[0] + scale.range[1]) / 2;
      return scale.range.map((end) => scale.value(middle + (end - middle) * factor));
    });
    this.view = [xs, ys];
    this.draw();
  }

  pan(right, up) {
    this.view = [[this.x, right], [this.y, up]].map(([scale, share]) => {
      const by = (scale.range[1] - scale.range[0]) * share;
      return scale.range.map((end) => scale.value(end + by));
    });
    this.draw();
  }

  /** Say what the point is, ring it, and bring its series to the front. */
  read(point) {
    if (!point) return;
    if (point !== this.at) {
      for (const series of this.shown()) {
        const lit = series.points.includes(point);
        series.drawn.classList.toggle("lit", lit);
        if (lit) series.drawn.parentNode.append(series.drawn);
      }
    }
    this.at = point;
    this.ring.setAttribute("cx", this.x.place(point.x));
    this.ring.setAttribute("cy", this.y.place(point.y));
    this.ring.setAttribute("visibility", "visible");
    this.reading.textContent = point.title;
  }

  points() {
    return this.shown().flatMap((s) => s.points).filter((p) => this.x.holds(p.x) && this.y.holds(p.y));
  }
}

function axes(plot, width, height) {
  const bottom = height - PAD.bottom;
  const parts = [];
  for (const value of xTicks(plot, width)) {
    const x = plot.x.place(value);
    parts.push(svg("line", { class: "rule", x1: x, x2: x, y1: PAD.top, y2: bottom }),
      svg("text", { x, y: bottom + 16, "text-anchor": "middle" }, short(value)));
  }
  for (const value of plot.y.ticks(Math.floor(height / 55))) {
    const y = plot.y.place(value);
    parts.push(svg("line", { class: "rule", x1: PAD.left, x2: width - PAD.right, y1: y, y2: y }),
      svg("text", { x: PAD.left - 7, y: y + 4, "text-anchor": "end" }, short(value)));
  }
  const middle = (PAD.top + bottom) / 2;
  parts.push(
    svg("text", { class: "axis", x: (PAD.left + width - PAD.right) / 2, y: height - 8, "text-anchor": "middle" }, plot.what.x.label),
    svg("text", { class: "axis", "text-anchor": "middle", transform: `translate(13 ${middle}) rotate(-90)` }, plot.what.y.label));
  return parts;
}

/** Ticks at the values themselves where those are few (1, 2 and 4 evaluations), else round ones. */
function xTicks(plot, width) {
  const values = plot.what.x.values ?? [];
  const own = values.filter((v) => plot.x.holds(v)).sort((a, b) => a - b).filter((v) => {
    const x = plot.x.place(v);
    return x >= PAD.left - 1 && x <= width - PAD.right + 1;
  });
  const apart = own.filter((v, n) => n === 0 || plot.x.place(v) - plot.x.place(own[n - 1]) > 26);
  return own.length > 1 && own.length < 11 ? apart : plot.x.ticks(Math.max(2, Math.floor(width / 90)));
}

function drawSeries(plot, series, inside) {
  const points = series.points.filter((p) => plot.x.holds(p.x) && plot.y.holds(p.y));
  const at = (p, y = p.y) => `${plot.x.place(p.x).toFixed(1)} ${plot.y.place(y).toFixed(1)}`;
  const style = { stroke: series.colour, fill: series.colour };
  if (series.band && points.length === 1) inside.append(whisker(plot, series, points[0]));
  if (series.band && points.length > 1 && points.some((p) => p.low < p.high)) {
    const good = points.filter((p) => plot.y.holds(p.low));
    const edge = [...good.map((p) => at(p, p.high)), ...good.toReversed().map((p) => at(p, p.low))];
    inside.append(svg("path", { d: `M${edge.join("L")}z`, fill: series.colour, class: "band" }));
  }
  if (series.line && points.length > 1) {
    inside.append(svg("path", {
      d: `M${points.map((p) => at(p)).join("L")}`, class: "line", stroke: series.colour,
      "stroke-dasharray": series.dash,
    }));
  }
  if (series.shape) {
    for (const p of points) {
      inside.append(shape(series.shape, series.size ?? 4.5, {
        ...style, ...(series.hollow ? { fill: "var(--page)", "stroke-width": 1.5 } : {}),
        transform: `translate(${at(p)})`, "data-point": true,
      }));
    }
  }
  return inside;
}

/** The names beside points, each where nothing is written yet; one that finds no place is left out. */
function drawTags(plot, points) {
  const taken = [];
  const written = points.map((p) => {
    const text = p.text.length > 30 ? `${p.text.slice(0, 29)}\u2026` : p.text;
    const box = tagBoxes(plot, p, text.length * 6.4).find((b) => b.fits && !taken.some((other) => overlap(b, other)));
    if (!box) return null;
    taken.push(box);
    return svg("text", { x: box.at, y: box.y + 11, "text-anchor": box.anchor, class: "tag" }, text);
  });
  return svg("g", {}, ...written);
}

/** Places for a name round its point: right or left of it, above or below. */
function tagBoxes(plot, p, width) {
  const [x, y] = [plot.x.place(p.x), plot.y.place(p.y)];
  const sides = [[x + 8, x + 8, "start"], [x - 8 - width, x - 8, "end"]];
  return [-17, 3, -7].flatMap((down) => sides.map(([left, at, anchor]) => ({
    x: left, y: y + down, width, at, anchor,
    fits: left > plot.x.range[0] && left + width < plot.x.range[1] && y + down > PAD.top,
  })));
}

function overlap(a, b) {
  return a.x < b.x + b.width && b.x < a.x + a.width && Math.abs(a.y - b.y) < 13;
}

/** The seeds of a point that is alone on its line. */
function whisker(plot, series, p) {
  const [x, ...ys] = [plot.x.place(p.x), plot.y.place(p.low), plot.y.place(p.high)];
  return svg("line", { x1: x, x2: x, y1: ys[0], y2: ys[1], stroke: series.colour, class: "line whisker" });
}

function drawLevel(plot, level) {
  const y = plot.y.place(level.y);
  return svg("g", { class: "level" },
    svg("line", { x1: PAD.left, x2: plot.x.range[1], y1: y, y2: y }),
    svg("text", { x: plot.x.range[1] - 4, y: y - 4, "text-anchor": "end" }, level.name));
}

/** The Pareto front as steps: from one of its points, nothing better before the next. */
function drawFront(plot, inside) {
  const front = plot.what.front.filter((p) => plot.x.holds(p.x) && plot.y.holds(p.y));
  if (!front.length) return;
  const steps = front.slice(1).map((p) => `H${plot.x.place(p.x)}V${plot.y.place(p.y)}`);
  const start = `M${plot.x.place(front[0].x)} ${plot.y.place(front[0].y)}`;
  inside.append(svg("path", { d: `${start}${steps.join("")}H${plot.x.range[1]}`, class: "front" }));
}
