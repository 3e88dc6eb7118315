// One pair after the other; every answer is kept at once, so that a closed page goes on where it was.

const HOME = document.getElementById("study");
const WHAT = HOME.dataset.what;
const PLACE = `distillbench-study-${DATA.study}`;
const SERVED = location.protocol.startsWith("http");
const state = restored() ?? fresh();
let sending = false;
let since = performance.now();
const AGAIN_MS = 2000;
const REFUSED = "The server does not take these answers: they are of another study, or another window went on. Reload the page, or download them at the end.";

function fresh() {
  return { study: DATA.study, rater: "", started: new Date().toISOString(), answers: [], turn: 0 };
}

/** What was answered before in this browser; a record that is not ours is left alone. */
function restored() {
  try {
    const found = JSON.parse(localStorage.getItem(PLACE));
    return found?.study === DATA.study && Array.isArray(found.answers) ? found : null;
  } catch {
    return null;
  }
}

function keep() {
  state.turn = (state.turn ?? 0) + 1;
  try {
    localStorage.setItem(PLACE, JSON.stringify(state));
  } catch {
    // Private windows may keep nothing: the download at the end still has all answers.
  }
  send();
}

/** Send what was answered until the server has all of it: one request at a time, none overtakes. */
async function send() {
  if (!SERVED || sending || !state.rater) return;
  sending = true;
  for (let kept = null; kept !== state.turn;) {
    const turn = state.turn;
    const status = await posted(JSON.stringify(state));
    if (status === 200) kept = turn;
    else if (status >= 400 && status < 500) return told(REFUSED);
    else {
      told("The answers could not be sent. They are kept in this browser, and sent again.");
      await new Promise((go) => setTimeout(go, AGAIN_MS));
    }
  }
  sending = false;
  told("");
}

/** The status of the server's reply; 0 when there is none. A request outlives its page. */
async function posted(body) {
  try {
    return (await fetch("answers", { method: "POST", body, keepalive: body.length < 60000 })).status;
  } catch {
    return 0;
  }
}

function told(text) {
  const line = document.getElementById("told");
  if (line) line.textContent = text;
}

function show() {
  if (!state.rater) welcome();
  else if (state.answers.length < DATA.pairs.length) ask();
  else thanks();
}

function welcome() {
  const name = el("input", { id: "rater", required: true, maxlength: 60, autocomplete: "off" });
  const start = () => {
    if (!name.value.trim()) return;
    state.rater = name.value.trim();
    keep();
    show();
  };
  HOME.replaceChildren(
    el("h1", {}, `Which ${WHAT} is better?`),
    el("p", {}, `You will see ${DATA.pairs.length} pairs of ${WHAT}s, each made for the text above it. ` +
      `Choose the one that is better: look at both how good the ${WHAT} is and how well it fits the text. ` +
      "If you cannot say, choose no difference. Keys: left and right arrow, and down for no difference."),
    el("form", { class: "row", on: { submit: (event) => { event.preventDefault(); start(); } } },
      el("label", { for: "rater" }, "A name or number for you"), name, el("button", {}, "Begin")));
}

function ask() {
  const number = state.answers.length;
  const pair = DATA.pairs[number];
  const choose = (side, text) => el("button", { type: "button", "data-choice": side, on: { click: () => answer(side) } }, ...text);
  const picture = (side) => choose(side, [el("img", { src: pair[side], alt: `the ${side} ${WHAT}` }), el("span", {}, side)]);
  HOME.replaceChildren(
    el("p", { class: "note" }, `Pair ${number + 1} of ${DATA.pairs.length}`),
    el("progress", { max: DATA.pairs.length, value: number, "aria-label": "Pairs judged" }),
    el("h1", {}, pair.prompt),
    el("div", { class: "pair" }, picture("left"), picture("right")),
    el("div", { class: "row" }, choose("tie", ["no difference"]),
      number ? el("button", { type: "button", on: { click: back } }, "back") : null),
    el("p", { class: "note", id: "told", role: "status" }));
  since = performance.now();
}

function answer(choice) {
  state.answers.push({ pair: state.answers.length, choice, ms: Math.round(performance.now() - since) });
  keep();
  show();
}

function back() {
  state.answers.pop();
  keep();
  show();
}

function thanks() {
  const text = JSON.stringify({ ...state, finished: true }, null, 1);
  const link = el("a", { href: `data:application/json;charset=utf-8,${encodeURIComponent(text)}`, download: `answers-${state.rater.replace(/[^\w-]+/g, "_")}.json` }, "Download your answers");
  HOME.replaceChildren(el("h1", {}, "Thank you"), el("p", {}, SERVED ? "Your answers are sent as you give them. You can also keep them:" : "Please send this file back:"),
    el("p", {}, link), el("div", { class: "row" }, el("button", { type: "button", on: { click: another } }, "Begin as another person")),
    el("p", { class: "note", id: "told", role: "status" }));
}

/** A machine may have several raters; what was answered stays with the server or in the download. */
function another() {
  Object.assign(state, fresh());
  show();
}

document.addEventListener("keydown", (event) => {
  const choice = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" }[event.key];
  if (!choice || !document.querySelector("[data-choice]")) return;
  event.preventDefault();
  answer(choice);
});
show();
send();
