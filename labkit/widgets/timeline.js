// The view of TimelineView. State (time_s, playing, speed) lives in Python and is moved by timeline_clock.js; `render`
// draws it and turns keys, pointer and controls into state.

const SVG = "http://www.w3.org/2000/svg";
const ROW = 30, AXIS = 26, RIGHT = 78; // pixels
const SPEEDS = [[0.25, "40 s"], [0.5, "20 s"], [1, "10 s"], [2, "5 s"], [4, "2.5 s"]];
const HATCHES = [
  "", "M0 8L8 0M-2 2L2 -2M6 10L10 6", "M2 2h2v2h-2zM6 6h2v2h-2z", "M0 0L8 8M8 0L0 8", "M0 0L8 8M-2 6L2 10M6 -2L10 2",
  "M4 0V8M0 4H8", "M2 4a2 2 0 1 0 4 0a2 2 0 1 0 -4 0", "M0 2H5M3 6H8",
];

function element(tag, attributes = {}, ...children) {
  const isSvg = ["svg", "g", "rect", "line", "path", "text", "pattern", "defs"].includes(tag);
  const node = isSvg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children); // strings become text nodes: nothing is parsed as HTML
  return node;
}

function render({ model, el }) {
  const data = model.get("data");
  const { lanes, categories, start, end, scale, unit } = data;
  const duration = end - start || 1, uid = `labkit-${Math.random().toString(36).slice(2)}`;
  const byLane = lanes.map((_, i) => data.spans.filter((s) => s.lane === i).sort((a, b) => a.start - b.start));
  const edges = [...new Set([start, end, ...data.spans.flatMap((s) => [s.start, s.end])])].sort((a, b) => a - b);
  const digits = Math.max(0, 2 - Math.floor(Math.log10(duration / scale)));
  const said = (seconds) => `${(seconds / scale).toFixed(digits)} ${unit}`;
  const left = Math.min(220, 16 + 7.2 * Math.max(...lanes.map((name) => name.length)));
  let width = 0, lane = 0;

  // ---- the parts
  const svg = element("svg", { class: "lt-lanes", tabindex: "0", role: "application", "aria-roledescription": "timeline" });
  svg.setAttribute("aria-label", `${data.title}. ${lanes.length} lanes over ${said(duration)}. Left and right arrow step ` +
    "from event to event, up and down choose a lane, space plays, Home and End go to the ends.");
  const tip = element("div", { class: "lt-tip", role: "tooltip", id: `${uid}-tip`, hidden: "" });
  svg.setAttribute("aria-describedby", `${uid}-tip`);
  const play = element("button", { type: "button", class: "lt-play" });
  const scrub = element("input", { type: "range", class: "lt-scrub", min: "0", max: "1000", step: "1", "aria-label": "Time" });
  const clock = element("output", { class: "lt-clock" });
  const speed = element("select", { class: "lt-speed", "aria-label": "Speed: seconds for the whole timeline" });
  for (const [value, label] of SPEEDS) speed.append(element("option", { value: String(value) }, label));
  const now = element("div", { class: "lt-now", role: "status" });
  const legend = element("div", { class: "lt-legend" });
  const root = element("div", { class: "labkit-timeline", role: "group", "aria-label": data.title },
    element("div", { class: "lt-title" }, data.title), element("div", { class: "lt-stage" }, svg, tip), legend,
    element("div", { class: "lt-controls" }, play, scrub, clock, element("label", {}, "all in ", speed)), now);

  // JupyterLab's command mode would take the arrows away from whatever has the focus.
  for (const node of [svg, play, scrub, speed]) node.setAttribute("data-lm-suppress-shortcuts", "true");

  const defs = element("defs");
  categories.forEach((category, i) => {
    const pattern = element("pattern", { id: `${uid}-${i}`, width: 8, height: 8, patternUnits: "userSpaceOnUse" },
      element("rect", { width: 8, height: 8, fill: category.color }),
      element("path", { d: HATCHES[category.hatch], stroke: category.ink, "stroke-width": 1, "stroke-opacity": 0.55, fill: "none" }));
    defs.append(pattern);
    const swatch = element("svg", { width: 22, height: 13, "aria-hidden": "true" },
      element("rect", { width: 22, height: 13, fill: `url(#${uid}-${i})` }));
    legend.append(element("span", { class: "lt-key" }, swatch, category.name));
  });

  const x = (time) => left + ((time - start) / duration) * (width - left - RIGHT);
  const spanAt = (row, time, slack = 0) => byLane[row].findLast((s) => s.start - slack <= time && time < s.end + slack);

  function draw() { // what does not move
    const height = lanes.length * ROW + AXIS;
    svg.setAttribute("width", width);
    svg.setAttribute("height", height);
    svg.replaceChildren(defs);
    const tick = nice(duration / scale / Math.max(2, (width - left - RIGHT) / 90)) * scale;
    for (let t = 0; t <= duration * 1.0001; t += tick) {
      svg.append(element("line", { class: "lt-grid", x1: x(start + t), x2: x(start + t), y1: 0, y2: height - AXIS + 4 }),
        element("text", { class: "lt-tick", x: x(start + t), y: height - 8 }, `${+(t / scale).toPrecision(6)}`));
    }
    svg.append(element("text", { class: "lt-unit", x: width - RIGHT + 8, y: height - 8 }, unit));
    byLane.forEach((spans, row) => {
      svg.append(element("text", { class: "lt-lane", x: left - 8, y: row * ROW + ROW / 2 }, lanes[row]),
        element("text", { class: "lt-busy", x: width - RIGHT + 8, y: row * ROW + ROW / 2 }, `${Math.round(100 * data.busy[row])}% busy`));
      let previous = null; // runs of slivers are drawn as one
      for (const span of spans) {
        const from = x(span.start), to = Math.max(x(span.end), from + 0.5);
        if (previous && previous.category === span.category && from - previous.to < 0.5 && to - from < 1) {
          previous.to = to;
          previous.node.setAttribute("width", to - previous.from);
          continue;
        }
        const node = element("rect", { class: "lt-span", x: from, y: row * ROW + 3, width: to - from, height: ROW - 6, fill: `url(#${uid}-${span.category})` });
        previous = { category: span.category, from, to, node };
        svg.append(node);
        const category = categories[span.category];
        if (span.name !== category.name && span.name.length * 6.6 + 8 < to - from) {
          const wide = span.name.length * 6.2 + 6, middle = (from + to) / 2;
          svg.append(element("rect", { x: middle - wide / 2, y: row * ROW + 8, width: wide, height: ROW - 16, fill: category.color }),
            element("text", { class: "lt-name", x: middle, y: row * ROW + ROW / 2, fill: category.ink }, span.name));
        }
      }
    });
    svg.append(element("rect", { class: "lt-focus", x: left, width: width - left - RIGHT, height: ROW - 2 }),
      element("path", { class: "lt-cursor", d: `M0 0V${height - AXIS + 4}M-5 0H5L0 7Z` }));
    move();
  }

  function move() { // what does
    const time = model.get("time_s"), playing = model.get("playing");
    svg.querySelector(".lt-cursor")?.setAttribute("transform", `translate(${x(time)} 0)`);
    svg.querySelector(".lt-focus")?.setAttribute("y", lane * ROW + 1);
    scrub.value = String(Math.round((1000 * (time - start)) / duration));
    scrub.setAttribute("aria-valuetext", said(time - start));
    clock.textContent = `${said(time - start)} of ${said(duration)}`;
    play.textContent = playing ? "❚❚ Pause" : "▶ Play";
    play.setAttribute("aria-label", playing ? "Pause the timeline" : "Play the timeline");
    speed.value = String(model.get("speed"));
    now.setAttribute("aria-live", playing ? "off" : "polite"); // a running clock must not talk without end
    now.replaceChildren(`At ${said(time - start)}: `, ...lanes.slice(0, 16).flatMap((name, row) => {
      const span = spanAt(row, time);
      return [row ? " · " : "", element("b", {}, name), ` ${span ? span.name : "idle"}`];
    }), lanes.length > 16 ? ` · and ${lanes.length - 16} more lanes` : "");
    if (document.activeElement === svg) tell(lane, time);
  }

  function tell(row, time, slack = 0) { // the tooltip of what `row` does at `time`
    const span = row >= 0 && row < lanes.length ? spanAt(row, time, slack) : undefined;
    tip.hidden = !span;
    if (!span) return;
    const category = categories[span.category].name;
    const heading = span.name === category ? span.name : `${span.name} (${category})`;
    tip.replaceChildren(element("b", {}, `${lanes[row]}: ${heading}`), element("div", {},
      `${said(span.start - start)} to ${said(span.end - start)}, lasts ${said(span.end - span.start)}`),
      ...(span.detail ? [element("div", {}, span.detail)] : []));
    const middle = x(Math.max(span.start, Math.min(span.end, time)));
    tip.style.left = `${Math.min(Math.max(0, middle - 60), Math.max(0, width - 240))}px`;
    tip.style.top = `${(row + 1) * ROW + 4}px`;
  }

  // ---- what the reader does
  const seek = (time, sync = true) => {
    model.set("time_s", Math.min(end, Math.max(start, time)));
    if (sync) model.save_changes();
  };
  const toggle = () => { model.set("playing", !model.get("playing")); model.save_changes(); };
  const halt = () => { if (model.get("playing")) model.set("playing", false); };
  const pointed = (event) => {
    const box = svg.getBoundingClientRect();
    const inner = width - left - RIGHT;
    return { row: Math.floor((event.clientY - box.top) / ROW), time: start + ((event.clientX - box.left - left) / inner) * duration, slack: (2 * duration) / inner };
  };
  play.addEventListener("click", toggle);
  scrub.addEventListener("input", () => { halt(); seek(start + (Number(scrub.value) / 1000) * duration); });
  speed.addEventListener("change", () => { model.set("speed", Number(speed.value)); model.save_changes(); });
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); halt(); lane = Math.min(lanes.length - 1, Math.max(0, pointed(event).row)); seek(pointed(event).time); });
  svg.addEventListener("pointermove", (event) => {
    const { row, time, slack } = pointed(event);
    if (event.buttons & 1) seek(time);
    tell(row, time, slack);
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; });
  svg.addEventListener("focus", () => tell(lane, model.get("time_s")));
  svg.addEventListener("blur", () => { tip.hidden = true; });
  root.addEventListener("keydown", (event) => {
    if (event.target === speed || event.ctrlKey || event.metaKey || event.altKey) return;
    const time = model.get("time_s");
    const keys = {
      " ": () => event.target !== play && toggle(),
      ArrowRight: () => { halt(); seek(edges.find((e) => e > time) ?? end); },
      ArrowLeft: () => { halt(); seek(edges.findLast((e) => e < time) ?? start); },
      ArrowDown: () => { lane = Math.min(lanes.length - 1, lane + 1); move(); },
      ArrowUp: () => { lane = Math.max(0, lane - 1); move(); },
      Home: () => { halt(); seek(start); },
      End: () => { halt(); seek(end); },
      Escape: () => { tip.hidden = true; },
    };
    if (!(event.key in keys) || (event.key === " " && event.target === play)) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  });

  model.on("change:time_s change:playing change:speed", move);
  const observer = new ResizeObserver(([entry]) => {
    const next = Math.round(entry.contentRect.width);
    if (next && next !== width) { width = next; draw(); }
  });
  el.append(root);
  observer.observe(svg.parentElement);
  return () => { observer.disconnect(); model.off("change:time_s change:playing change:speed", move); };
}

const nice = (step) => { // the next of 1, 2, 5 × 10ⁿ
  const power = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 5, 10].find((factor) => factor * power >= step) * power;
};

export default { initialize, render };
