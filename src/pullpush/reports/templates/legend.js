// The legend of the interactive map: what its colours mean, and a choice of what they are by.
(() => {
  const GROUPINGS = {{ block.colouring | tojson }}, COLOURS = {{ block.colours | tojson }}, REST = {{ block.rest | tojson }};
  const box = document.getElementById("legend"), hidden = new Set();
  if (!GROUPINGS.length) return;
  let at = 0, source, x;
  const make = (name, values, ...children) => { const node = Object.assign(document.createElement(name), values); node.append(...children); return node; };
  const paint = () => {
    const { codes } = GROUPINGS[at];
    source.data.colour = codes.map((code) => COLOURS[code] ?? REST);
    source.data.x = Float64Array.from(codes, (code, i) => (hidden.has(code) ? NaN : x[i]));  // nowhere is not under the pointer
    source.change.emit();
  };
  const entry = (code, name) => {
    const dot = make("i"), button = make("button", { type: "button", title: `Show or hide ${name}`, ariaPressed: "true" }, dot, make("span", { dir: "auto" }, name));
    dot.style.background = COLOURS[code] ?? REST;
    button.onclick = () => { const on = hidden.delete(code); if (!on) hidden.add(code); button.ariaPressed = String(on); paint(); };
    return button;
  };
  const draw = () => {
    const { groups, codes } = GROUPINGS[at], choice = make("select", { ariaLabel: "Colour by" });
    GROUPINGS.forEach(({ by }, i) => choice.append(make("option", { value: i, selected: i === at }, `by ${by}`)));
    choice.onchange = () => { at = Number(choice.value); hidden.clear(); draw(); paint(); };
    const entries = groups.map((name, code) => entry(code, name.replaceAll("_", " ") || "none"));
    box.replaceChildren(choice, ...entries, ...(codes.includes(-1) ? [entry(-1, "others")] : []));
  };
  const start = setInterval(() => {
    const root = window.Bokeh?.documents?.[0]?.roots()[0];
    if (!root) return;
    clearInterval(start);
    source = root.renderers[0].data_source;
    x = Float64Array.from(source.data.x);
    draw();
  }, 50);
})();
