"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const map = document.getElementById("map"), surface = document.getElementById("surface");
const value = document.getElementById("value"), log = document.getElementById("log");
const line = data.grid.length === 1, losses = data.losses, finite = losses.flat().filter((v) => v !== null);
const least = Math.min(...finite), most = Math.max(...finite);
const ink = getComputedStyle(document.body).color;
let turn = -0.9, tilt = 0.95, at = null;
log.checked = data.logarithmic;
log.disabled = !(least > 0);

const height = (v) => {
  const f = log.checked ? Math.log : (x) => x, span = f(most) - f(least);
  return span > 0 ? (f(v) - f(least)) / span : 0.5;
};
const color = (share) => {
  const [r, g, b] = data.colors[Math.max(0, Math.min(data.colors.length - 1, Math.floor(share * data.colors.length)))];
  return `rgb(${r},${g},${b})`;
};
const short = (v) => Number(v.toPrecision(4)).toString();
const EDGE = 52;
const scale = (axis, size) => {
  const low = axis[0], high = axis[axis.length - 1];
  return (v) => EDGE + ((v - low) / (high - low)) * (size - 2 * EDGE);
};
const pixelX = scale(data.grid[0], map.width);
const range = line ? null : scale(data.grid[1], map.height);
const pixelY = (v) => (line ? map.height - EDGE - height(v) * (map.height - 2 * EDGE) : map.height - range(v));

function drawMap() {
  const pen = map.getContext("2d");
  pen.clearRect(0, 0, map.width, map.height);
  pen.fillStyle = pen.strokeStyle = ink;
  pen.font = "12px system-ui, sans-serif";
  const [x, y] = data.grid;
  if (line) {
    pen.beginPath();
    losses.forEach(([v], i) => { if (v !== null) pen.lineTo(pixelX(x[i]), pixelY(v)); });
    pen.lineWidth = 2;
    pen.stroke();
    pen.fillText(short(most), 2, EDGE); pen.fillText(short(least), 2, map.height - EDGE);
  } else {
    const wide = pixelX(x[1]) - pixelX(x[0]), high = pixelY(y[0]) - pixelY(y[1]);
    losses.forEach((row, j) => row.forEach((v, i) => {
      if (v === null) return;
      pen.fillStyle = color(height(v));
      pen.fillRect(pixelX(x[i]) - wide / 2, pixelY(y[j]) - high / 2, wide + 0.6, high + 0.6);
    }));
    pen.fillStyle = ink;
    pen.fillText(short(y[0]), 2, pixelY(y[0])); pen.fillText(short(y[y.length - 1]), 2, pixelY(y[y.length - 1]));
    pen.save(); pen.translate(14, map.height / 2); pen.rotate(-Math.PI / 2); pen.textAlign = "center";
    pen.fillText(data.labels[1], 0, 0); pen.restore();
  }
  pen.textAlign = "center";
  pen.fillText(short(x[0]), pixelX(x[0]), map.height - 26);
  pen.fillText(short(x[x.length - 1]), pixelX(x[x.length - 1]), map.height - 26);
  pen.fillText(data.labels[0], map.width / 2, map.height - 8);
  pen.fillStyle = pen.strokeStyle = "#d1495b";
  const spots = data.marks.map((m) => [pixelX(m.place[0]), line ? map.height - EDGE : pixelY(m.place[1]), m.name]);
  pen.lineWidth = 1.5; pen.beginPath(); spots.forEach(([px, py]) => pen.lineTo(px, py)); pen.stroke();
  pen.textAlign = "left";
  spots.forEach(([px, py, name], i) => {
    pen.beginPath(); pen.arc(px, py, 3.5, 0, 7); pen.fill();
    if (spots.length <= 6 || i === 0 || i === spots.length - 1) pen.fillText(name, px + 6, py - 6);
  });
  if (at) { pen.strokeStyle = "#fff"; pen.strokeRect(at[0] - 4, at[1] - 4, 8, 8); }
}

function drawSurface() {
  if (line) { surface.hidden = true; return; }
  const pen = surface.getContext("2d"), n = losses.length, m = losses[0].length;
  const [c, s, ct, st] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)], size = surface.width * 0.52;
  const points = losses.map((row, j) => row.map((v, i) => {
    const x = i / (m - 1) - 0.5, y = j / (n - 1) - 0.5, z = v === null ? null : 0.75 * (height(v) - 0.5);
    const back = x * s + y * c;
    return z === null ? null
      : [surface.width / 2 + size * (x * c - y * s), surface.height / 2 - size * (z * st + back * ct), back * st - z * ct];
  }));
  const faces = [];
  for (let j = 0; j + 1 < n; j++) for (let i = 0; i + 1 < m; i++) {
    const corners = [points[j][i], points[j][i + 1], points[j + 1][i + 1], points[j + 1][i]];
    if (corners.some((p) => p === null)) continue;
    const mean = (losses[j][i] + losses[j][i + 1] + losses[j + 1][i + 1] + losses[j + 1][i]) / 4;
    faces.push([corners.reduce((sum, p) => sum + p[2], 0), corners, color(height(mean))]);
  }
  faces.sort((a, b) => b[0] - a[0]);
  pen.clearRect(0, 0, surface.width, surface.height);
  for (const [, corners, fill] of faces) {
    pen.fillStyle = pen.strokeStyle = fill;
    pen.beginPath(); corners.forEach(([px, py]) => pen.lineTo(px, py)); pen.closePath(); pen.fill(); pen.stroke();
  }
}

const nearest = (axis, pixel, to) => axis.reduce((best, v, i) =>
  Math.abs(to(v) - pixel) < Math.abs(to(axis[best]) - pixel) ? i : best, 0);
map.addEventListener("pointermove", (event) => {
  const box = map.getBoundingClientRect(), k = map.width / box.width;
  const i = nearest(data.grid[0], (event.clientX - box.left) * k, pixelX);
  const j = line ? i : nearest(data.grid[1], (event.clientY - box.top) * k, pixelY);
  const v = line ? losses[i][0] : losses[j][i];
  at = [pixelX(data.grid[0][i]), line ? (v === null ? 0 : pixelY(v)) : pixelY(data.grid[1][j])];
  const place = line ? short(data.grid[0][i]) : `${short(data.grid[0][i])}, ${short(data.grid[1][j])}`;
  value.textContent = `loss ${v === null ? "not finite" : short(v)} at (${place})`;
  drawMap();
});
let grabbed = null;
surface.addEventListener("pointerdown", (event) => {
  grabbed = [event.clientX, event.clientY];
  surface.setPointerCapture(event.pointerId);
});
surface.addEventListener("pointermove", (event) => {
  if (!grabbed) return;
  turn += (event.clientX - grabbed[0]) * 0.01;
  tilt = Math.max(0.1, Math.min(1.5, tilt - (event.clientY - grabbed[1]) * 0.01));
  grabbed = [event.clientX, event.clientY];
  drawSurface();
});
surface.addEventListener("pointerup", () => { grabbed = null; });
log.addEventListener("change", () => { drawMap(); drawSurface(); });
drawMap();
drawSurface();
