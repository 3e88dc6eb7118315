"use strict";

// Small helpers around the document. Text always goes in as text, never as markup.

const DATA = JSON.parse(document.getElementById("page-data").textContent);
const SVG = document.getElementById("svg-space").namespaceURI;
const CALM = matchMedia("(prefers-reduced-motion: reduce)").matches;

/** An element with attributes ({on: {click: f}} for listeners) and children or text. */
function el(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

/** The same in an SVG drawing. */
function svg(tag, attributes = {}, ...children) {
  return dress(document.createElementNS(SVG, tag), attributes, children);
}

function dress(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [kind, listener] of Object.entries(value)) node.addEventListener(kind, listener);
    } else if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A labelled select; options are [value, text]. */
function select(label, options, chosen, changed) {
  const box = el("select", { "aria-label": label, on: { change: () => changed(box.value) } },
    ...options.map(([value, text]) => el("option", { value }, text)));
  box.value = chosen;
  return { box, field: el("label", {}, el("span", {}, label), box) };
}

function checkbox(label, checked, changed) {
  const box = el("input", { type: "checkbox", on: { change: () => changed(box.checked) } });
  box.checked = checked;
  return { box, field: el("label", { class: "check" }, box, el("span", {}, label)) };
}

/** A number as a person reads it: four significant digits. */
function short(value) {
  if (value === null || value === undefined) return "--";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return Number(value.toPrecision(3)).toExponential();
  return String(Number(value.toPrecision(4)));
}

function unique(values) {
  return [...new Set(values)];
}
