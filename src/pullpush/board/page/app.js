"use strict";
// One page for all runs: the list, and with #NAME one run. Everything is read again every two seconds.

const EVERY = 2000;
const $ = (id) => document.getElementById(id);
const STAGES = { preparing: "Prepare", training: "Train", testing: "Test", finished: "Done" };
const WORDS = {
  preparing: "reading the images, embedding them with the untrained model",
  training: "training",
  testing: "testing on classes that were never trained on",
  finished: "finished",
  stopped: "stopped",
};

let shown = null; // the run on the page: its name, whether the last validation is shown, and how fast its steps come
let playing = 0;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : Number(value).toFixed(digits);
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}

async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error?.message ?? answer.statusText);
  return answer.json();
}

// A chart of lines {name: [[step, value], ...]}, drawn for a width of 600 units.
function chart(lines, steps) {
  const names = Object.keys(lines).filter((name) => lines[name].length);
  const box = make("div");
  if (!names.length) {
    box.append(make("p", { class: "soft" }, "nothing yet"));
    return box;
  }
  const [width, height, left, bottom, top] = [600, 220, 46, 24, 8];
  const points = names.flatMap((name) => lines[name]);
  const values = points.map(([, value]) => value).sort((a, b) => a - b);
  let [low, high] = [values[0], values[Math.ceil(0.99 * (values.length - 1))]];
  if (high <= low) [low, high] = [low - 0.5, low + 0.5];
  const room = 0.06 * (high - low);
  low = low >= 0 && low < room ? 0 : low - room;
  high += room;
  const last = Math.max(steps || 0, ...points.map(([step]) => step), 1);
  const x = (step) => left + ((width - left - 6) * step) / last;
  const y = (value) => top + (height - top - bottom) * (1 - (Math.min(value, high) - low) / (high - low));
  const svg = (tag, attributes, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };
  const drawing = svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img" });
  drawing.setAttribute("aria-label", names.map((name) => `${name} ${number(lines[name].at(-1)[1])}`).join(", "));
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const value = low + share * (high - low);
    drawing.append(svg("line", { class: "grid", x1: left, x2: width - 6, y1: y(value), y2: y(value) }));
    drawing.append(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, number(value, high - low < 0.1 ? 3 : 2)));
    const step = Math.round(share * last);
    drawing.append(svg("text", { x: x(step), y: height - 6, "text-anchor": share === 1 ? "end" : share ? "middle" : "start" }, share === 1 ? `step ${step}` : step));
  }
  const legend = make("div", { class: "legend" });
  names.forEach((name, place) => {
    const path = lines[name].map(([step, value], at) => `${at ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    const colour = (place % 5) + 1;
    drawing.append(svg("path", { class: `c${colour}${lines[name].length > 60 ? " thin" : ""}`, d: path }));
    if (lines[name].length < 2) drawing.append(svg("circle", { class: `c${colour}`, cx: x(lines[name][0][0]), cy: y(lines[name][0][1]), r: 3 }));
    legend.append(make("span", {}, make("i", { class: `b${colour}` }), `${name} `, make("b", {}, number(lines[name].at(-1)[1]))));
  });
  box.append(drawing, legend);
  return box;
}

const plain = (name) => name.replace("validation/", "").replace("train/loss", "training batches").replace("loss_miner", "validation batches").replace("loss_all", "all validation pairs");
const renamed = (lines = {}) => Object.fromEntries(Object.entries(lines).map(([name, points]) => [plain(name), points]));

// ---- one run -----------------------------------------------------------------------------------------------------

function picture(run, hit) {
  const image = make("img", { src: `/api/runs/${encodeURIComponent(run)}/images/${hit.image}`, alt: "", loading: "lazy" });
  return make("figure", hit.right === undefined ? {} : { class: hit.right ? "right" : "wrong" }, image);
}

function drawFound(state) {
  const { retrieved } = state, grid = $("grid");
  const slide = document.querySelector(".slide");
  slide.hidden = retrieved.length < 2;
  if (!retrieved.length) {
    $("found-note").textContent = state.sample.length ? "Some of the images that it learns from." : "";
    if (grid.dataset.key === `sample ${state.sample.length}`) return;
    grid.dataset.key = `sample ${state.sample.length}`;
    grid.replaceChildren(make("div", { class: "sample" }, ...state.sample.map((image) => picture(state.name, { image }))));
    return;
  }
  const slider = $("slider");
  const follows = shown.follows;
  slider.max = retrieved.length - 1;
  if (follows) slider.value = retrieved.length - 1;
  const at = retrieved[Number(slider.value)];
  const right = at.rows.flatMap((row) => row.hits).filter((hit) => hit.right).length;
  const there = at.rows.reduce((sum, row) => sum + row.there, 0);
  $("found-note").textContent = "Queries of validation classes, left, and what is nearest; ✓ is of the query's class.";
  $("at").textContent = `${at.step ? `step ${at.step}` : "untrained"}: ${right} of ${there} found`;
  const key = `${state.name} ${at.step}`;
  if (grid.dataset.key === key) return;
  grid.dataset.key = key;
  grid.replaceChildren(...at.rows.map(({ query, hits: nearest }) => {
    const asked = query.image === null ? make("div", { class: "asked" }, query.text) : make("div", { class: "asked", title: query.text }, picture(state.name, { image: query.image }));
    return make("div", { class: "row" }, asked, ...nearest.map((hit) => picture(state.name, hit)));
  }));
}

function drawStages(state) {
  const names = Object.keys(STAGES), now = names.indexOf(state.state);
  $("stages").replaceChildren(...names.map((name, place) => make("li", now >= 0 && (place < now || state.state === "finished") ? { class: "done" } : place === now ? { class: "now" } : {}, STAGES[name])));
}

function drawProgress(state) {
  const bar = $("bar"), share = state.steps ? state.step / state.steps : 0;
  bar.classList.toggle("unknown", ["preparing", "testing"].includes(state.state));
  bar.setAttribute("aria-valuemax", state.steps);
  bar.setAttribute("aria-valuenow", state.step);
  bar.firstElementChild.style.width = bar.classList.contains("unknown") ? "" : `${100 * (state.state === "finished" ? 1 : share)}%`;
  let words = `${WORDS[state.state]}: step ${state.step} of ${state.steps}`;
  if (["preparing", "testing", "finished"].includes(state.state)) words = WORDS[state.state];
  if (state.state === "finished" && state.seconds) words += ` after ${duration(state.seconds)}`;
  if (state.state === "stopped") words += ". Go on with: pullpush train --resume RUN";
  if (state.state === "training") {
    shown.pace.push([Date.now(), state.step]);
    const [since, first] = shown.pace[Math.max(0, shown.pace.length - 30)];
    const seconds = (Date.now() - since) / 1000;
    if (state.step > first && seconds > 3) words += `, about ${duration((seconds * (state.steps - state.step)) / (state.step - first))} left for them`;
  }
  $("status").textContent = words;
}

function drawFindings(state) {
  const rows = state.problems.map((each) => make("li", { class: each.severity }, make("b", {}, each.finding.replaceAll("_", " ")), `step ${each.step}: ${each.evidence}`, make("span", { class: "advice" }, each.advice)));
  $("findings").replaceChildren(...(rows.length ? rows : [make("li", { class: "soft" }, "Nothing is wrong, as far as it has looked.")]));
}

function drawResults(state) {
  const whens = Object.keys(state.test).filter((when) => Object.keys(state.test[when]).length);
  $("test").hidden = !whens.length;
  if (!whens.length) return;
  const names = [...new Set(whens.flatMap((when) => Object.keys(state.test[when])))];
  const words = { before: "untrained", after: "trained", views: "with test views", reranked: "re-ranked", views_reranked: "views, re-ranked" };
  $("results").tHead.replaceChildren(make("tr", {}, make("th", {}, ""), ...names.map((name) => make("th", { class: "number" }, name))));
  $("results").tBodies[0].replaceChildren(...whens.map((when) => make("tr", {}, make("td", {}, words[when] ?? when), ...names.map((name) => make("td", { class: "number" }, number(state.test[when][name]))))));
}

function drawLinks(state) {
  const links = [];
  if (state.search) links.push(make("a", { href: state.search, class: "go" }, "Search it"));
  for (const page of state.pages) links.push(make("a", { href: `/runs/${encodeURIComponent(state.name)}/${page}`, target: "_blank", rel: "noopener" }, page === "report.html" ? "Report" : "Diagnosis"));
  $("links").replaceChildren(...links);
}

async function drawRun(name) {
  if (!shown || shown.name !== name) shown = { name, follows: true, pace: [] };
  // The page may be open before the run has begun: what is not listed is not asked for.
  if (!shown.state && !(await get("/api/runs")).runs.some((run) => run.name === name)) throw new Error(`there is no run ${name} yet`);
  const state = await get(`/api/runs/${encodeURIComponent(name)}`);
  if (!shown || shown.name !== name) return;
  shown.state = state;
  document.title = `${state.state === "training" && state.steps ? `${Math.round((100 * state.step) / state.steps)}% ` : ""}${name} – pullpush`;
  $("title").textContent = [name, state.data, state.loss.replaceAll("_", " ")].filter(Boolean).join(" · ");
  drawStages(state);
  drawProgress(state);
  drawFound(state);
  $("chart-found").replaceChildren(chart(renamed(state.curves.found), state.steps));
  $("chart-loss").replaceChildren(chart(renamed(state.curves.loss), state.steps));
  drawFindings(state);
  drawResults(state);
  drawLinks(state);
  $("options").textContent = state.options;
}

$("slider").addEventListener("input", () => {
  shown.follows = Number($("slider").value) === Number($("slider").max);
  drawFound(shown.state);
});
$("play").addEventListener("click", () => {
  clearInterval(playing);
  const slider = $("slider");
  slider.value = 0;
  shown.follows = false;
  drawFound(shown.state);
  playing = setInterval(() => {
    slider.value = Number(slider.value) + 1;
    shown.follows = slider.value === slider.max;
    drawFound(shown.state);
    if (shown.follows) clearInterval(playing);
  }, 700);
});

// ---- all runs ----------------------------------------------------------------------------------------------------

const chosen = new Set();

async function drawCompared() {
  const lines = {};
  for (const name of chosen) {
    const { curves } = await get(`/api/runs/${encodeURIComponent(name)}`);
    const [line] = Object.values(curves.found ?? {});
    if (line) lines[name] = line;
  }
  $("compared").hidden = !Object.keys(lines).length;
  $("compared-chart").replaceChildren(chart(lines, 0));
}

async function drawList() {
  const { folder, runs, search } = await get("/api/runs");
  document.title = "pullpush runs";
  $("title").textContent = folder;
  $("links").replaceChildren(...(search ? [make("a", { href: search, class: "go" }, "Search")] : []));
  $("count").textContent = runs.length ? `${runs.length} ${runs.length === 1 ? "run" : "runs"}; mark some to see them side by side` : "There is no run here yet: pullpush train";
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.test.after ?? {})))];
  const heads = ["", "run", "state", "data", "loss", "steps", "findings", ...metrics, "untrained"];
  $("runs").tHead.replaceChildren(...(runs.length ? [make("tr", {}, ...heads.map((head) => make("th", ["steps", "findings", "untrained", ...metrics].includes(head) ? { class: "number" } : {}, head)))] : []));
  $("runs").tBodies[0].replaceChildren(...runs.map((run) => {
    const box = make("input", { type: "checkbox", "aria-label": `compare ${run.name}` });
    box.checked = chosen.has(run.name);
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(run.name); else chosen.delete(run.name);
      drawCompared();
    });
    const cells = [run.loss.replaceAll("_", " "), `${run.step} of ${run.steps}`, run.findings || "–"];
    return make("tr", {}, make("td", {}, box), make("td", {}, make("a", { href: `#${encodeURIComponent(run.name)}` }, run.name)), make("td", {}, make("span", { class: `state ${run.state}` }, run.state)), make("td", {}, run.data), make("td", {}, cells[0]), make("td", { class: "number" }, cells[1]), make("td", { class: "number" }, cells[2]),
      ...metrics.map((name) => make("td", { class: "number" }, number(run.test.after?.[name]))), make("td", { class: "number" }, number(Object.values(run.test.before ?? {})[0])));
  }));
}

// ---- the loop ----------------------------------------------------------------------------------------------------

let timer = 0;

async function draw() {
  clearTimeout(timer);
  const name = decodeURIComponent(location.hash.slice(1));
  $("run").hidden = !name;
  $("list").hidden = !!name;
  try {
    await (name ? drawRun(name) : drawList());
    $("message").hidden = true;
  } catch (error) {
    $("message").textContent = error instanceof TypeError ? "The server has ended; start it again with: pullpush board" : error.message;
    $("message").hidden = false;
  }
  const rests = name && shown?.state && ["finished", "stopped"].includes(shown.state.state);
  timer = setTimeout(draw, document.hidden || rests ? 4 * EVERY : EVERY);
}

addEventListener("hashchange", () => {
  clearInterval(playing);
  shown = null;
  draw();
});
document.addEventListener("visibilitychange", draw);
draw();
