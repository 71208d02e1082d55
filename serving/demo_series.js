// Runs in the page's time series: the annotated clip, and a plot that moves with it. `element`, `props` and `watch` are
// Gradio's.
const SVG = "http://www.w3.org/2000/svg";
const WIDE = 640, HIGH = 240, LEFT = 66, RIGHT = 10, TOP = 14, BOTTOM = 32;
const SHOWN = 6; // More lines than this cannot be told apart.
// Okabe and Ito's colours, told apart by every kind of colour blindness; the dashes tell them apart without colour.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b98900", "#3a93c9"];
const DASHES = ["", "9 4", "3 3", "12 3 3 3", "6 2", "1 3"];

function made(tag, attributes, text) {
  const one = tag === "svg" || attributes.svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (name !== "svg") one.setAttribute(name, value);
  if (text !== undefined) one.textContent = text;
  return one;
}

function show(data) {
  const root = element.querySelector(".series");
  if (!root) return;
  root.replaceChildren();
  if (!data) return;
  const video = made("video", { src: data.clip, controls: "", loop: "", playsinline: "", preload: "auto", class: "clip" });
  video.muted = true;
  root.append(video);
  if (!data.faces.length) return;
  const chooser = made("div", { class: "faces", role: "group", "aria-label": "Face" });
  const plot = made("div", { class: "plot" });
  root.append(chooser, plot);
  const end = Math.max(data.seconds, 0.04);
  let move = () => {};
  const choose = (face) => {
    for (const button of chooser.children) button.setAttribute("aria-pressed", String(button.dataset.face === String(face.number)));
    move = draw(plot, data, face, video, end);
    move();
  };
  for (const face of data.faces) {
    const button = made("button", { type: "button", "data-face": face.number, style: `--face: ${face.colour}` },
      `Face ${face.number}: ${face.summary}`);
    button.addEventListener("click", () => choose(face));
    chooser.append(button);
  }
  const follow = () => { move(); if (!video.paused && root.contains(video)) requestAnimationFrame(follow); };
  for (const name of ["timeupdate", "seeked", "loadeddata"]) video.addEventListener(name, () => move());
  video.addEventListener("play", follow);
  choose(data.faces[0]);
}

// Draws one face's lines and returns what moves the cursor to the player's time.
function draw(plot, data, face, video, end) {
  plot.replaceChildren();
  const x = (time) => LEFT + (WIDE - LEFT - RIGHT) * Math.min(time / end, 1);
  const y = (share) => TOP + (HIGH - TOP - BOTTOM) * (1 - share);
  const svg = made("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, tabindex: 0, role: "slider", "aria-label": "Time in the clip",
    "aria-valuemin": 0, "aria-valuemax": end.toFixed(2) });
  for (const share of [0, 0.5, 1]) {
    svg.append(made("line", { svg: 1, x1: LEFT, x2: WIDE - RIGHT, y1: y(share), y2: y(share), class: "grid" }));
    svg.append(made("text", { svg: 1, x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share} %`));
  }
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    svg.append(made("text", { svg: 1, x: x(share * end), y: HIGH - 8, "text-anchor": anchor }, `${(share * end).toFixed(1)} s`));
  }
  const most = data.expressions.map((name, place) => [Math.max(...face.scores.map((row) => row[place])), place]);
  const shown = most.sort((a, b) => b[0] - a[0]).slice(0, SHOWN).map(([, place]) => place);
  const legend = made("ul", { class: "legend" });
  const readings = shown.map((place, rank) => {
    const points = face.times.map((time, number) => `${x(time).toFixed(1)},${y(face.scores[number][place]).toFixed(1)}`);
    svg.append(made("polyline", { svg: 1, points: points.join(" "), fill: "none", stroke: COLOURS[rank], "stroke-width": 2.2,
      "stroke-dasharray": DASHES[rank] }));
    if (points.length === 1) {
      const [cx, cy] = points[0].split(",");
      svg.append(made("circle", { svg: 1, cx, cy, r: 3.5, fill: COLOURS[rank] }));
    }
    const entry = made("li", {});
    const key = made("svg", { viewBox: "0 0 34 8", width: 34, height: 8, "aria-hidden": "true" });
    key.append(made("line", { svg: 1, x1: 0, x2: 34, y1: 4, y2: 4, stroke: COLOURS[rank], "stroke-width": 2.6, "stroke-dasharray": DASHES[rank] }));
    const reading = made("b", {});
    entry.append(key, made("span", {}, data.expressions[place]), reading);
    legend.append(entry);
    return [place, reading];
  });
  const cursor = made("line", { svg: 1, y1: TOP, y2: HIGH - BOTTOM, class: "cursor" });
  svg.append(cursor);
  plot.append(svg, legend);
  const seek = (time) => { video.currentTime = Math.min(Math.max(time, 0), end); };
  const pointed = (event) => {
    const box = svg.getBoundingClientRect();
    seek(end * ((event.clientX - box.left) / box.width * WIDE - LEFT) / (WIDE - LEFT - RIGHT));
  };
  svg.addEventListener("pointerdown", (event) => { pointed(event); svg.setPointerCapture(event.pointerId); });
  svg.addEventListener("pointermove", (event) => { if (event.buttons) pointed(event); });
  svg.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -0.04, ArrowRight: 0.04, PageDown: -1, PageUp: 1, Home: -Infinity, End: Infinity };
    if (event.key === " ") video.paused ? video.play() : video.pause();
    else if (event.key in steps) seek(Math.min(Math.max(video.currentTime + steps[event.key], 0), end));
    else return;
    event.preventDefault();
  });
  return () => {
    const now = video.currentTime;
    cursor.setAttribute("x1", x(now));
    cursor.setAttribute("x2", x(now));
    svg.setAttribute("aria-valuenow", now.toFixed(2));
    // The last look at or before now.
    let last = -1;
    while (last + 1 < face.times.length && face.times[last + 1] <= now + 0.001) last += 1;
    const gone = last < 0 || now - face.times[last] > data.lost_after;
    for (const [place, reading] of readings) reading.textContent = gone ? "–" : `${Math.round(100 * face.scores[last][place])} %`;
    svg.setAttribute("aria-valuetext", `${now.toFixed(1)} s`);
  };
}

const read = () => show(props.value ? JSON.parse(props.value) : null);
watch("value", read);
read();
