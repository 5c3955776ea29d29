"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const canvas = at("map"), pen = canvas.getContext("2d"), tip = at("tip");
const sheets = [...document.querySelectorAll(".sheet")];
const count = data.places[0].length, shown = new Uint8Array(count).fill(1), on = data.groups.map(() => true);
const dark = matchMedia("(prefers-color-scheme: dark)");
let across = 0, up = Math.min(1, data.places.length - 1);
let view, width, height, waiting = false, sought = "", found = -1;

// Markers around 0, of size 1; the same as in the legend.
const markers = {
  "o": [], "s": [[-.8, -.8], [.8, -.8], [.8, .8], [-.8, .8]], "^": [[0, -1.1], [1, .75], [-1, .75]],
  "v": [[0, 1.1], [1, -.75], [-1, -.75]], "D": [[0, -1.15], [1.15, 0], [0, 1.15], [-1.15, 0]],
  "P": [[-.35, -1], [.35, -1], [.35, -.35], [1, -.35], [1, .35], [.35, .35], [.35, 1], [-.35, 1], [-.35, .35], [-1, .35], [-1, -.35], [-.35, -.35]],
  "X": [[0, -.5], [.6, -1.1], [1.1, -.6], [.5, 0], [1.1, .6], [.6, 1.1], [0, .5], [-.6, 1.1], [-1.1, .6], [-.5, 0], [-1.1, -.6], [-.6, -1.1]],
};
const color = (group) => dark.matches && group.color === "#333333" ? "#e2e2e2" : group.color;

function whole() {
  const x = data.places[across], y = data.places[up];
  let low = [Infinity, Infinity], high = [-Infinity, -Infinity];
  for (let i = 0; i < count; i++) {
    low = [Math.min(low[0], x[i]), Math.min(low[1], y[i])];
    high = [Math.max(high[0], x[i]), Math.max(high[1], y[i])];
  }
  const scale = 0.92 * Math.min(width / (high[0] - low[0] || 1), height / (high[1] - low[1] || 1));
  view = { scale, x: (low[0] + high[0]) / 2, y: (low[1] + high[1]) / 2 };
}
const left = (i) => (data.places[across][i] - view.x) * view.scale + width / 2;
const top_ = (i) => height / 2 - (data.places[up][i] - view.y) * view.scale;

function resize() {
  const box = canvas.getBoundingClientRect(), first = !view;
  [width, height] = [box.width, box.height];
  const dense = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(width * dense), Math.round(height * dense)];
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  if (first) whole();
  draw();
}
function draw() {
  if (!waiting) requestAnimationFrame(paint);
  waiting = true;
}
function mark(x, y, size, marker) {
  const corners = markers[marker] || [];
  if (!corners.length) {
    pen.moveTo(x + size, y);
    pen.arc(x, y, size, 0, 7);
    return;
  }
  corners.forEach(([a, b], i) => i ? pen.lineTo(x + a * size, y + b * size) : pen.moveTo(x + a * size, y + b * size));
  pen.closePath();
}
function thumbnail(to, i, x, y, size) {
  const per = data.columns * data.columns, sheet = sheets[Math.floor(i / per)], place = i % per;
  if (!sheet || !sheet.complete) return;
  const column = place % data.columns, row = Math.floor(place / data.columns);
  to.drawImage(sheet, column * data.thumb, row * data.thumb, data.thumb, data.thumb, x, y, size, size);
}
function free(boxes, x, y, side) {
  for (let a = -1; a < 2; a++) for (let b = -1; b < 2; b++) {
    const other = boxes.get(Math.floor(x / side + a) + "," + Math.floor(y / side + b));
    if (other && Math.abs(left(other[0]) - x) < side - 2 && Math.abs(top_(other[0]) - y) < side - 2) return false;
  }
  return true;
}
function paint() {
  waiting = false;
  pen.clearRect(0, 0, width, height);
  const size = Math.max(2, Math.min(6, 42 / Math.sqrt(count) + 1.5)), inside = (x, y) => x > -40 && y > -40 && x < width + 40 && y < height + 40;
  const boxes = new Map(), side = 34, pictures = at("images").checked && sheets.length;
  data.groups.forEach((group, number) => {
    pen.beginPath();
    for (const i of group.points) {
      if (!shown[i]) continue;
      const x = left(i), y = top_(i);
      if (!inside(x, y)) continue;
      // Images where they fit beside those that are there; the others stay marks.
      if (pictures && free(boxes, x, y, side)) boxes.set(Math.floor(x / side) + "," + Math.floor(y / side), [i, number]);
      mark(x, y, size, group.marker);
    }
    pen.globalAlpha = 0.85;
    pen.fillStyle = color(group);
    pen.fill();
    pen.globalAlpha = 1;
  });
  for (const [i, number] of boxes.values()) {
    const x = left(i) - side / 2 + 3, y = top_(i) - side / 2 + 3;
    pen.fillStyle = color(data.groups[number]);
    pen.fillRect(x - 2, y - 2, side - 2, side - 2);
    thumbnail(pen, i, x, y, side - 6);
  }
  if (found >= 0 && shown[found]) {
    pen.beginPath();
    pen.arc(left(found), top_(found), size + 5, 0, 7);
    pen.lineWidth = 2;
    pen.strokeStyle = getComputedStyle(canvas).color;
    pen.stroke();
  }
}
function select() {
  let left_over = 0;
  data.groups.forEach((group, number) => group.points.forEach((i) => {
    shown[i] = on[number] && (!sought || (data.names[i] || "").toLowerCase().includes(sought)) ? 1 : 0;
    left_over += shown[i];
  }));
  at("shown").textContent = left_over === count ? count + " points" : left_over + " of " + count + " points";
  hide();
  draw();
}
function zoom(factor, x = width / 2, y = height / 2) {
  const dx = (x - width / 2) / view.scale, dy = (y - height / 2) / view.scale;
  view = { scale: view.scale * factor, x: view.x + dx - dx / factor, y: view.y - dy + dy / factor };
  hide();
  draw();
}
function hide() {
  tip.hidden = true;
  found = -1;
}
function look(x, y) {
  let best = 15 * 15, near = -1;
  for (let i = 0; i < count; i++) {
    if (!shown[i]) continue;
    const dx = left(i) - x, dy = top_(i) - y, far = dx * dx + dy * dy;
    if (far < best) [best, near] = [far, i];
  }
  if (near === found) return;
  found = near;
  tip.hidden = near < 0;
  draw();
  if (near < 0) return;
  at("name").textContent = data.names[near] || "point " + near;
  const group = data.groups.find((one) => one.points.includes(near));
  at("class").textContent = group.name;
  const picture = at("picture");
  picture.hidden = !sheets.length;
  const to = picture.getContext("2d");
  to.imageSmoothingEnabled = !data.small;
  to.clearRect(0, 0, 128, 128);
  thumbnail(to, near, 0, 0, 128);
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(0, left(near) + 14 + box.width > width ? left(near) - 14 - box.width : left(near) + 14) + "px";
  tip.style.top = Math.max(0, Math.min(height - box.height, top_(near) - box.height / 2)) + "px";
}

const pointers = new Map();
canvas.addEventListener("pointerdown", (event) => {
  pointers.set(event.pointerId, event);
  canvas.setPointerCapture(event.pointerId);
  canvas.classList.add("moving");
});
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => {
  pointers.delete(event.pointerId);
  canvas.classList.remove("moving");
});
canvas.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId), box = canvas.getBoundingClientRect();
  if (!before) return look(event.clientX - box.left, event.clientY - box.top);
  const others = [...pointers.values()].filter((one) => one.pointerId !== event.pointerId);
  if (others.length) {
    const far = (one) => Math.hypot(one.clientX - others[0].clientX, one.clientY - others[0].clientY) || 1;
    zoom(far(event) / far(before), (event.clientX + others[0].clientX) / 2 - box.left, (event.clientY + others[0].clientY) / 2 - box.top);
  } else {
    view.x -= (event.clientX - before.clientX) / view.scale;
    view.y += (event.clientY - before.clientY) / view.scale;
    hide();
    draw();
  }
  pointers.set(event.pointerId, event);
});
canvas.addEventListener("pointerleave", () => { hide(); draw(); });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = canvas.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
const all = () => { whole(); hide(); draw(); };
canvas.addEventListener("dblclick", all);
canvas.addEventListener("keydown", (event) => {
  const step = 60 / view.scale;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
  if (moves[event.key]) {
    view.x += moves[event.key][0];
    view.y += moves[event.key][1];
    hide();
    draw();
  } else if (event.key === "+" || event.key === "=") zoom(1.3);
  else if (event.key === "-") zoom(1 / 1.3);
  else if (event.key === "0") all();
  else return;
  event.preventDefault();
});
at("closer").addEventListener("click", () => zoom(1.5));
at("further").addEventListener("click", () => zoom(1 / 1.5));
at("whole").addEventListener("click", all);
at("find").addEventListener("input", (event) => { sought = event.target.value.trim().toLowerCase(); select(); });
at("images").addEventListener("change", draw);

const svg = "http://www.w3.org/2000/svg", boxes = [];
data.groups.forEach((group, number) => {
  const item = document.createElement("li"), label = document.createElement("label"), box = document.createElement("input");
  const sign = document.createElementNS(svg, "svg"), name = document.createElement("b"), many = document.createElement("small");
  const corners = markers[group.marker] || [], shape = document.createElementNS(svg, corners.length ? "polygon" : "circle");
  sign.setAttribute("viewBox", "-1.4 -1.4 2.8 2.8");
  if (corners.length) shape.setAttribute("points", corners.map((c) => c.join(",")).join(" "));
  else shape.setAttribute("r", "1");
  shape.setAttribute("fill", color(group));
  sign.append(shape);
  [box.type, box.checked] = ["checkbox", true];
  [name.textContent, name.title, many.textContent] = [group.name, group.name, group.points.length];
  box.addEventListener("change", () => { on[number] = box.checked; select(); });
  boxes.push(box);
  label.append(box, sign, name, many);
  item.append(label);
  at("classes").append(item);
});
const set = (value) => { boxes.forEach((box, number) => { box.checked = on[number] = value; }); select(); };
at("every").addEventListener("click", () => set(true));
at("none").addEventListener("click", () => set(false));
if (data.places.length > 2) for (const [id, first] of [["across", 0], ["up", 1]]) {
  data.axes.forEach((name, i) => at(id).append(new Option(name, i, i === first, i === first)));
  at(id).addEventListener("change", () => { across = +at("across").value; up = +at("up").value; all(); });
}
at("axes").hidden = data.places.length < 3;
at("classed").hidden = data.groups.length < 2 && !data.groups[0].name;
at("named").hidden = !data.names.length;
at("pictured").hidden = !sheets.length;
dark.addEventListener("change", draw);
sheets.forEach((sheet) => sheet.addEventListener("load", draw));
new ResizeObserver(resize).observe(canvas);
resize();
select();
