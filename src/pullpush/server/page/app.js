// The page of a search server: no framework, and nothing from another site.
const $ = (id) => document.getElementById(id);
const COUNT = 60, COLOURS = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948",
  "#d37295", "#9c755f", "#499894", "#86bc5b", "#6b6ecf"], REST = "#9a9aa2";

let about = null;      // what /api/index says
let query = blank(false);  // what is asked
let hits = [];
let more = false;      // there are others after them
let asked = 0;         // number of the newest request: answers to older ones are dropped
let atlas = null;      // the map, once it was opened

function blank(rerank = query.rerank) { return { text: "", image: null, like: [], minus: [], where: {}, rerank }; }
function isEmpty() { return !query.text.trim() && !query.image && !query.like.length; }

// ---- asking the server -------------------------------------------------------------------------------------------

async function ask(url, options) {
  let answer;
  try { answer = await fetch(url, options); } catch { throw new Error("The server does not answer. Is it still running?"); }
  if (answer.status === 401) { await signIn(); return ask(url, options); }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const body = await answer.json().catch(() => null);
  throw new Error(sentence(body?.error?.message ?? `The server answered ${answer.status}`));
}

function sentence(text) { return text[0].toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? "" : "."); }

async function signIn() {
  for (;;) {
    $("token").showModal();
    await new Promise((done) => $("token").addEventListener("close", done, { once: true }));
    const answer = await fetch("/api/session", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ token: $("secret").value }),
    });
    if (answer.ok) return;
    $("denied").textContent = "That is not the token.";
  }
}

function request(skip) {
  const fields = new URLSearchParams({ k: COUNT, skip, ...query.where });
  if (query.text.trim()) fields.set("text", query.text.trim());
  if (query.rerank) fields.set("rerank", "auto");
  if (query.image) {
    const form = new FormData();
    for (const [name, value] of fields) form.set(name, value);
    form.set("image", query.image);
    return ask("/api/search", { method: "POST", body: form });
  }
  for (const id of query.like) fields.append("like", id);
  for (const id of query.minus) fields.append("minus_id", id);
  return ask(`/api/search?${fields}`);
}

// ---- running a query ---------------------------------------------------------------------------------------------

async function run({ remember = true } = {}) {
  const mine = ++asked;
  if (remember) history.pushState(query, "", address());
  drawParts();
  say();
  $("more").hidden = $("end").hidden = true;
  if (!isEmpty() || Object.keys(query.where).length === 0) waiting();
  await Promise.all([next(mine, 0), identify(mine)]);
}

// Who the image shows, above the items that are like it.
async function identify(mine) {
  $("who").hidden = true;
  if (!query.image || query.text.trim() || !about.classes) return;
  const form = new FormData();
  form.set("image", query.image);
  const who = await ask("/api/identify", { method: "POST", body: form }).catch(() => null);  // too few to tell, or what the search says too
  if (mine !== asked || !who) return;
  const chance = who.probability === null ? "" : percent(who.probability);
  const rest = who.name !== null ? chance && ` ${chance}`
    : ` More than one stranger in ${Math.round(1 / who.far).toLocaleString()} would come as close to one of the ${about.classes.toLocaleString()} classes. The closest is ${who.closest}${chance && `, ${chance}`}.`;
  $("who").replaceChildren(make("b", {}, who.name ?? "Unknown."), rest);
  $("who").className = who.name === null ? "unknown" : "";
  $("who").hidden = false;
}

function percent(share) { return share < 0.005 ? "<1%" : share > 0.995 ? ">99%" : `${Math.round(100 * share)}%`; }

// The hits from number `skip` on: the first ones take the place of what was shown, the others follow it.
async function next(mine, skip) {
  try {
    const found = isEmpty() ? await sample(skip) : await request(skip);
    if (mine !== asked) return;
    const begun = skip ? hits.length : 0;
    hits = skip ? [...hits, ...found.hits.filter((hit) => !hits.some((known) => known.id === hit.id))] : found.hits;
    more = found.more;
    drawGrid(begun);
    if (!hits.length) say("No items", "No item of this collection can be shown for this.");
    $("status").textContent = isEmpty() ? `${about.items.toLocaleString()} items. Here are some of them.`
      : hits.length ? `${hits.length} item${hits.length === 1 ? "" : "s"}, ${query.rerank ? "re-ranked" : "closest first"}` : "";
    atlas?.mark(isEmpty() ? [] : hits.map((hit) => hit.id));
    if (skip) $("grid").querySelectorAll("button.card")[begun]?.focus({ preventScroll: true });
  } catch (error) {
    if (mine !== asked) return;
    if (!skip) { hits = []; more = false; drawGrid(); $("status").textContent = ""; }
    say("", error.message, true);
  }
}

async function showMore() {
  $("more").disabled = true;
  say();
  await next(asked, hits.length);
  $("more").disabled = false;
}

async function sample(skip) {
  const map = await places(), some = 48;
  const fits = map.ids.map((_, i) => i).filter((i) => !query.where[map.by] || map.groups[map.group[i]] === query.where[map.by]);
  const step = Math.max(1, Math.floor(fits.length / some));  // spread over the collection, the same each time
  const order = Array.from({ length: step }, (_, turn) => fits.filter((_, i) => i % step === turn)).flat();
  const found = order.slice(skip, skip + some).map((i) => ({ id: map.ids[i], label: map.title[i], score: null }));
  return { hits: found, more: skip + some < order.length };
}

const known = new Map();
function places(by = "") {
  if (!known.has(by)) known.set(by, ask(`/api/map?by=${by}`).catch((error) => { known.delete(by); throw error; }));
  return known.get(by);
}

function address() {
  const fields = new URLSearchParams(query.where);
  if (query.text.trim()) fields.set("text", query.text.trim());
  if (query.like.length) fields.set("like", query.like.join(" "));
  if (query.minus.length) fields.set("minus", query.minus.join(" "));
  if (query.rerank) fields.set("rerank", "auto");
  return fields.size ? `?${fields}` : "/";
}

function fromAddress() {
  const fields = new URLSearchParams(location.search), ids = (name) => (fields.get(name) ?? "").split(" ").filter(Boolean).map(Number);
  const where = Object.fromEntries([...fields].filter(([name]) => name in about.filters));
  return { ...blank(), text: about.text ? fields.get("text") ?? "" : "", like: ids("like"), minus: ids("minus"), where, rerank: about.rerank !== "none" && fields.get("rerank") === "auto" };
}

function change(part) { query = { ...query, ...part }; run(); }
function similar(id) { show("grid"); query = { ...blank(), where: query.where, like: [id] }; $("text").value = ""; run(); scrollTo(0, 0); }
function searchByImage(file) {
  if (!file) return;
  if (!/^image\/(png|jpeg|gif|webp|avif|hei[cf])$/.test(file.type) && !/\.hei[cf]$/i.test(file.name))
    return say("", "Images can be PNG, JPEG, GIF, WebP, AVIF or HEIC.", true);
  if (file.size > about.limits.bytes) return say("", `The image is larger than ${Math.floor(about.limits.bytes / 2 ** 20)} MB.`, true);
  show("grid");
  change({ image: file, like: [], minus: [] });
}

// ---- drawing -----------------------------------------------------------------------------------------------------

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) key in node ? (node[key] = value) : node.setAttribute(key, value);
  node.append(...children);
  return node;
}
function thumbnail(id, alt = "") {
  const image = make("img", { src: `/api/items/${id}/thumbnail`, alt, loading: "lazy", decoding: "async", draggable: false });
  image.onload = () => {
    const w = image.naturalWidth, h = image.naturalHeight, tile = image.closest(".tile");
    if (!tile || (Math.max(w, h) <= 120 && Math.abs(w / h - 1) < 0.1)) return;  // an icon keeps its margin
    tile.classList.add("photo");  // shown whole; what it leaves of the tile is filled with itself, out of focus
    tile.style.setProperty("--image", `url("${image.src}")`);
  };
  return image;
}
// What a hit is worth: how likely it is of the query's class, or where that cannot be told, how similar.
function measure(hit) {
  return hit.probability === null ? make("span", { title: "similarity, the cosine" }, hit.score.toFixed(2))
    : make("span", { title: `of one class with this probability; similarity ${hit.score.toFixed(2)}` }, percent(hit.probability));
}
function title(hit) { return hit.text?.[0] || hit.label || `item ${hit.id}`; }

function drawGrid(begun = 0) {
  $("grid").className = "";
  if (!begun) $("grid").replaceChildren();
  for (const [number, hit] of [...hits.entries()].slice(begun)) {
    // re-ranked, weak ones stand among the others
    if (query.rerank ? !number && hits.every((each) => each.weak) : hit.weak && !hits[number - 1]?.weak) $("grid").append(make("li", { className: "rest" }, number
      ? "From here on the matches are weak." : "Nothing is close to what you asked for. These are the nearest items."));
    $("grid").append(drawHit(hit));
  }
  const end = hits.length > about.limits.skip && !isEmpty();
  $("more").hidden = !more || end;
  $("end").hidden = !more || !end;
  $("end").textContent = `These are the nearest ${hits.length.toLocaleString()}. Narrow the search to see others.`;
}

function drawHit(hit) {
  const name = title(hit), words = make("span", { className: "words" }, make("span", { className: "label" }, name));
  const scored = hit.score !== null;
  if (scored) {
    words.append(make("span", { className: "note" }, make("span", {}, hit.domain || hit.category || (name === hit.label ? "" : hit.label)), measure(hit)));
    words.append(make("meter", { min: 0, max: 1, value: Math.max(0, hit.probability ?? hit.score), ariaLabel: hit.probability === null ? "similarity" : "probability" }));
  }
  const card = make("button", { type: "button", className: "card", title: `Items similar to ${name}` }, make("span", { className: "tile" }, thumbnail(hit.id, name)), words);
  card.onclick = () => similar(hit.id);
  const less = make("button", { type: "button", className: "less", title: "Less like this", ariaLabel: `Less like ${name}` }, "−");
  less.onclick = () => minus(hit.id);
  const why = make("button", { type: "button", className: "why", title: "Why does it match?", ariaLabel: `Why does ${name} match?` }, "?");
  why.onclick = () => explain(hit.id);
  const image = scored && !query.text.trim() && !query.minus.length && (query.image ? !query.like.length : query.like.length === 1);
  return make("li", { id: `hit-${hit.id}`, className: hit.weak ? "weak" : "" }, card, ...(scored && !query.image ? [less] : []), ...(image ? [why] : []));
}
async function drawOn(canvas, uri) {
  const bytes = Uint8Array.from(atob(uri.split(",")[1]), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/webp" }));
  Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
}
// What of both images makes them alike; their places add up to the cosine.
async function explain(id) {
  const form = new FormData();
  if (query.image) form.set("image", query.image);
  let found;
  try {
    found = await ask(`/api/items/${id}/why${query.image ? "" : `?like=${query.like[0]}`}`, query.image ? { method: "POST", body: form } : undefined);
  } catch (error) { say("It cannot be told why", error.message, true); return; }
  await Promise.all([drawOn($("why-a"), found.query), drawOn($("why-b"), found.item)]);
  $("why-score").textContent = `Cosine ${found.score.toFixed(3)}`;
  $("why-low").textContent = `−${found.scale.toFixed(2)}`;
  $("why-high").textContent = `+${found.scale.toFixed(2)}`;
  $("why-how").textContent = found.exact ? "The places of each image add up to the cosine, exactly." : `An ${found.method}.`;
  $("why").showModal();
}
function minus(id) { if (!query.image && !isEmpty() && !query.minus.includes(id)) change({ minus: [...query.minus, id] }); }

function waiting() {
  $("grid").className = "waiting";
  if (!$("grid").children.length) $("grid").replaceChildren(...Array.from({ length: 18 }, () => make("li", {}, make("span", { className: "card" }, make("span", { className: "tile" }), make("span", { className: "words" })))));
}

function say(title = "", text = "", bad = false) {
  const box = $("message");
  box.hidden = !text;
  box.className = bad ? "bad" : "";
  box.replaceChildren(...(title ? [make("h2", {}, title)] : []), make("p", {}, text));
}

function drawParts() {
  const part = (node, name, drop, className = "") => make("li", { className }, ...(className ? [make("b", {}, "−")] : []), node,
    make("button", { type: "button", ariaLabel: `Take ${name} out of the query`, onclick: drop }, "×"));
  const list = [];
  if (query.image) {
    const canvas = make("canvas", { width: 60, height: 60 });
    createImageBitmap(query.image).then((bitmap) => {
      const scale = 60 / Math.max(bitmap.width, bitmap.height), w = bitmap.width * scale, h = bitmap.height * scale;
      canvas.getContext("2d").drawImage(bitmap, (60 - w) / 2, (60 - h) / 2, w, h);
    }, () => {});  // the server says what is wrong with it
    list.push(part(canvas, "the image", () => change({ image: null })));
  }
  for (const id of query.like) list.push(part(thumbnail(id), "the item", () => change({ like: query.like.filter((x) => x !== id), minus: [] })));
  for (const id of query.minus) list.push(part(thumbnail(id), "the item", () => change({ minus: query.minus.filter((x) => x !== id) }), "minus"));
  $("parts").replaceChildren(...list);
  if (document.activeElement !== $("text")) $("text").value = query.text;
  $("rerank").checked = query.rerank;
  for (const select of $("filters").children) { select.value = query.where[select.name] ?? ""; select.classList.toggle("set", Boolean(select.value)); }
}

function drawFilters() {
  $("order").hidden = about.rerank === "none";
  $("order").title = `Hits on which the nearest items agree come first (${about.rerank}). Off by default: of the first hits more are right, but further down the list some that are right are lost.`;
  $("rerank").onchange = () => change({ rerank: $("rerank").checked });
  $("filters").replaceChildren(...Object.entries(about.filters).map(([name, values]) => {
    const select = make("select", { name, ariaLabel: `Only this ${name}` }, make("option", { value: "" }, `any ${name}`), ...values.map((value) => make("option", { value }, value)));
    select.onchange = () => {
      const where = { ...query.where };
      if (select.value) where[name] = select.value; else delete where[name];
      change({ where });
    };
    return select;
  }));
}

function show(view) {
  const map = view === "map";
  $("results").hidden = map; $("map").hidden = !map;
  $("tab-grid").ariaSelected = String(!map); $("tab-map").ariaSelected = String(map);
  if (map) { say(); atlas ??= new Atlas(); atlas.open(); } else if (!hits.length && !isEmpty()) run({ remember: false });
}

// ---- the map -----------------------------------------------------------------------------------------------------

class Atlas {
  view = { x: 0, y: 0, zoom: 1 }; data = null; hidden = new Set(); marked = new Set(); images = new Map(); pointers = new Map(); over = -1; frame = 0; screen = null;

  constructor() {
    const c = $("canvas");
    new ResizeObserver(() => this.draw()).observe(c);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    c.addEventListener("wheel", (e) => { e.preventDefault(); this.zoom(Math.exp(-e.deltaY * 0.0016), e.offsetX, e.offsetY); }, { passive: false });
    c.addEventListener("pointerdown", (e) => { c.setPointerCapture(e.pointerId); this.pointers.set(e.pointerId, e); this.moved = 0; });
    c.addEventListener("pointermove", (e) => this.move(e));
    for (const name of ["pointerup", "pointercancel"]) c.addEventListener(name, (e) => this.release(e));
    c.addEventListener("pointerleave", () => this.point(-1));
    c.addEventListener("keydown", (e) => this.key(e));
    $("zoom-in").onclick = () => this.zoom(1.6); $("zoom-out").onclick = () => this.zoom(1 / 1.6); $("zoom-all").onclick = () => this.all();
  }
  async open(by = "") {
    try { this.data = await places(by); } catch (error) { return say("", error.message, true); }
    this.hidden.clear(); this.screen = null;
    this.legend();
    this.mark(isEmpty() ? [] : hits.map((hit) => hit.id));
  }
  mark(ids) { this.marked = new Set(ids); this.draw(); }
  all() { this.view = { x: 0, y: 0, zoom: 1 }; this.draw(); }

  get size() { const box = $("canvas").getBoundingClientRect(); return [box.width, box.height]; }
  get scale() { const [w, h] = this.size; return Math.min(w, h) * 0.46 * this.view.zoom; }
  get stretch() { const [w, h] = this.size; return [Math.min(Math.max(w / h, 1), 1.8), Math.min(Math.max(h / w, 1), 1.8)]; }
  zoom(factor, x = this.size[0] / 2, y = this.size[1] / 2) {
    const [w, h] = this.size, [sx, sy] = this.stretch, before = this.scale, zoom = Math.min(Math.max(this.view.zoom * factor, 0.7), 60);
    const after = before * zoom / this.view.zoom;
    this.view = { x: this.view.x + (x - w / 2) / sx * (1 / before - 1 / after), y: this.view.y + (y - h / 2) / sy * (1 / before - 1 / after), zoom };
    this.draw();
  }
  pan(dx, dy) { const [sx, sy] = this.stretch; this.view.x -= dx / this.scale / sx; this.view.y -= dy / this.scale / sy; this.draw(); }

  move(e) {
    const old = this.pointers.get(e.pointerId);
    if (!old) return this.point(this.nearest(e.offsetX, e.offsetY), e.offsetX, e.offsetY);
    $("canvas").classList.add("held");
    if (this.pointers.size === 2) {  // pinch
      const [other] = [...this.pointers.values()].filter((p) => p.pointerId !== e.pointerId);
      const apart = (p) => Math.hypot(p.offsetX - other.offsetX, p.offsetY - other.offsetY);
      this.zoom(apart(e) / Math.max(apart(old), 1), (e.offsetX + other.offsetX) / 2, (e.offsetY + other.offsetY) / 2);
    } else this.pan(e.offsetX - old.offsetX, e.offsetY - old.offsetY);
    this.moved += Math.hypot(e.offsetX - old.offsetX, e.offsetY - old.offsetY);
    this.pointers.set(e.pointerId, e);
    this.point(-1);
  }
  release(e) {
    this.pointers.delete(e.pointerId);
    $("canvas").classList.remove("held");
    if (e.type !== "pointerup" || this.moved > 6) return;
    const item = this.nearest(e.offsetX, e.offsetY, e.pointerType === "touch" ? 24 : 12);
    if (item < 0) return this.point(-1);
    if (e.pointerType === "touch" && this.over !== item) return this.point(item, e.offsetX, e.offsetY);  // first a look, then the search
    similar(this.data.ids[item]);
  }
  key(e) {
    const step = 60, moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[e.key]) this.pan(...moves[e.key]);
    else if (e.key === "+" || e.key === "=") this.zoom(1.3);
    else if (e.key === "-") this.zoom(1 / 1.3);
    else if (e.key === "0") this.all();
    else return;
    e.preventDefault(); e.stopPropagation();
  }
  nearest(x, y, reach = 12) {
    if (!this.screen) return -1;
    let best = -1, least = Math.max(reach, this.side() / 2) ** 2;
    for (let i = 0; i < this.data.ids.length; i++) {
      if (this.hidden.has(this.data.group[i])) continue;
      const d = (this.screen[2 * i] - x) ** 2 + (this.screen[2 * i + 1] - y) ** 2;
      if (d < least) { least = d; best = i; }
    }
    return best;
  }
  side() { return this.view.zoom < 5 ? 0 : Math.min(14 + this.view.zoom * 1.6, 72); }  // of the images, once they are drawn

  point(item, x = 0, y = 0) {
    if (item !== this.over) { this.over = item; this.draw(); }
    const tip = $("tip");
    tip.hidden = item < 0;
    $("canvas").classList.toggle("over", item >= 0);
    if (item < 0) return;
    const [w, h] = this.size, source = `/api/items/${this.data.ids[item]}/thumbnail`;
    if (!tip.firstElementChild.src.endsWith(source)) tip.firstElementChild.src = source;
    tip.lastElementChild.textContent = this.data.title[item];
    tip.style.left = `${Math.min(Math.max(x + 16, 4), w - 150)}px`;
    tip.style.top = `${y + 200 > h ? Math.max(y - 190, 4) : y + 16}px`;
  }
  image(id) {
    if (!this.images.has(id)) {
      const image = new Image();
      image.onload = () => this.draw();
      image.src = `/api/items/${id}/thumbnail`;
      this.images.set(id, image);
    }
    return this.images.get(id);
  }
  draw() { this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.paint(); }); }
  paint() {
    const [w, h] = this.size, ratio = devicePixelRatio || 1, canvas = $("canvas"), c = canvas.getContext("2d"), data = this.data;
    if (!w || !data) return;
    canvas.width = w * ratio; canvas.height = h * ratio;
    c.scale(ratio, ratio);
    const [sx, sy] = this.stretch, s = this.scale, n = data.ids.length, screen = (this.screen = new Float32Array(2 * n)), seen = [];
    for (let i = 0; i < n; i++) {
      const x = (screen[2 * i] = w / 2 + (data.x[i] - this.view.x) * s * sx), y = (screen[2 * i + 1] = h / 2 + (data.y[i] - this.view.y) * s * sy);
      if (x > -40 && x < w + 40 && y > -40 && y < h + 40 && !this.hidden.has(data.group[i])) seen.push(i);
    }
    const radius = Math.min(Math.max(70 / Math.sqrt(n), 1.4), 5) * Math.min(this.view.zoom ** 0.45, 4), faded = this.marked.size > 0;
    const dot = (i, r) => { c.beginPath(); c.arc(screen[2 * i], screen[2 * i + 1], r, 0, 7); };
    const drawn = this.side() && seen.length <= 700;
    for (const i of seen) {
      c.globalAlpha = faded && !this.marked.has(data.ids[i]) ? 0.32 : 0.85;
      c.fillStyle = COLOURS[data.group[i]] ?? REST;
      const image = drawn ? this.image(data.ids[i]) : null;
      if (image?.naturalWidth) {
        const side = this.side(), x = screen[2 * i] - side / 2, y = screen[2 * i + 1] - side / 2;
        c.globalAlpha = faded && !this.marked.has(data.ids[i]) ? 0.6 : 1;
        c.beginPath(); c.roundRect(x - 2, y - 2, side + 4, side + 4, 7); c.fill();
        c.fillStyle = "#fff"; c.beginPath(); c.roundRect(x, y, side, side, 5); c.fill();
        const fit = side / Math.max(image.naturalWidth, image.naturalHeight), iw = image.naturalWidth * fit, ih = image.naturalHeight * fit;
        c.drawImage(image, screen[2 * i] - iw / 2, screen[2 * i + 1] - ih / 2, iw, ih);
      } else { dot(i, radius); c.fill(); }
    }
    c.globalAlpha = 1; c.lineWidth = 2; c.strokeStyle = getComputedStyle(canvas).color;
    for (const i of seen) if (this.marked.has(data.ids[i]) && !drawn) { dot(i, radius + 2.5); c.stroke(); }
    if (this.over >= 0) { dot(this.over, Math.max(radius + 5, drawn ? this.side() * 0.75 : 0)); c.stroke(); }
  }
  legend() {
    const { groups, group, by } = this.data, entry = (code, name) => {
      const dot = make("i"), button = make("button", { type: "button", ariaPressed: "true", title: "Show or hide" }, dot, name);
      dot.style.background = COLOURS[code] ?? REST;
      button.onclick = () => { const on = this.hidden.delete(code); if (!on) this.hidden.add(code); button.ariaPressed = String(on); this.draw(); };
      return button;
    };
    const choice = make("select", { ariaLabel: "Colour by" }, ...new Set([by, ...Object.keys(about.filters), "label"])
      .values().map((name) => make("option", { value: name, selected: name === by }, `by ${name}`)));
    choice.onchange = () => this.open(choice.value);
    const entries = groups.length > 1 ? groups.map((name, code) => entry(code, name || "none")) : [];
    if (group.includes(-1)) entries.push(entry(-1, "others"));
    $("legend").replaceChildren(make("label", {}, choice), ...entries);
  }
}

// ---- hands and keys ----------------------------------------------------------------------------------------------

function listen() {
  $("form").onsubmit = (e) => {
    e.preventDefault();
    if ($("text").value.trim() || query.image || query.like.length) { show("grid"); $("text").blur(); change({ text: $("text").value }); }
  };
  $("more").onclick = showMore;
  $("pick").onclick = () => $("file").click();
  $("file").onchange = () => { searchByImage($("file").files[0]); $("file").value = ""; };
  $("tab-grid").onclick = () => show("grid");
  $("tab-map").onclick = () => show("map");
  addEventListener("paste", (e) => searchByImage([...e.clipboardData.files].find((file) => file.type.startsWith("image/"))));
  addEventListener("dragover", (e) => { e.preventDefault(); if (e.dataTransfer.types.includes("Files")) $("drop").classList.add("on"); });
  addEventListener("dragleave", (e) => { if (!e.relatedTarget) $("drop").classList.remove("on"); });
  addEventListener("drop", (e) => { e.preventDefault(); $("drop").classList.remove("on"); searchByImage(e.dataTransfer.files[0]); });
  addEventListener("popstate", (e) => { query = e.state ?? fromAddress(); run({ remember: false }); });
  addEventListener("keydown", keys);
}

function keys(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || $("token").open) return;
  const typing = e.target.matches("input, select");
  if (e.key === "Escape") { query = blank(); $("text").value = ""; document.activeElement.blur(); return run(); }
  if (typing && !(e.key === "ArrowDown" && e.target.id === "text")) return;
  const cards = [...document.querySelectorAll("button.card")], here = cards.indexOf(document.activeElement);
  const across = cards.filter((card) => card.offsetParent && card.getBoundingClientRect().top === cards[0].getBoundingClientRect().top).length || 1;
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: here < 0 ? 1 : across, ArrowUp: -across };
  if (e.key === "/") { $("text").focus(); $("text").select(); }
  else if (e.key === "m") show($("map").hidden ? "map" : "grid");
  else if (e.key === "-" && here >= 0) minus(hits[here].id);
  else if (e.key in steps && cards.length && $("map").hidden) (cards[here + steps[e.key]] ?? (here < 0 ? cards[0] : cards[here])).focus();
  else return;
  e.preventDefault();
}

async function start() {
  listen();
  try { about = await ask("/api/index"); } catch (error) { return say("", error.message, true); }
  $("name").textContent = about.name;
  document.title = `${about.name} · search`;
  if (!about.text) {
    $("text").disabled = true;
    $("text").placeholder = "Drop, paste or pick an image";
    $("hint").hidden = false; $("hint").textContent = "Trained on images alone: search by image. Words need a model trained with --task image-text.";
  }
  drawFilters();
  query = fromAddress(); $("text").value = query.text;
  run({ remember: false });
}
start();
