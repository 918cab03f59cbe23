"use strict";
// Line charts over time. All charts share one time axis and one marked time.

const samples = [];                        // { at, values: { chart: [value of each line] } }
const keptSeconds = 21600;
const chartNames = new Map();
let range = 300, marked = null;

const charts = [
  { id: "latency", title: "Latency of reads", unit: "ms", lines: ["p50", "p99", "p99.9"], nothing: "No read was answered in this time." },
  { id: "throughput", title: "Throughput, a second", unit: "", lines: ["events", "reads"] },
  { id: "failed", title: "Requests that failed, a second", unit: "", lines: ["wrong (4xx)", "over capacity (429, 503, 504)", "server fault (500)"] },
  { id: "lag", title: "Accepted events that reads do not see yet", unit: "", lines: ["events"] },
  { id: "staleness", title: "Staleness of answers", unit: "ms", lines: ["p50", "p99"], nothing: "No read was answered in this time." },
  { id: "computed", title: "Embeddings computed, of those requested", unit: "%", lines: ["computed"], nothing: "No cached embedding was requested in this time." },
  { id: "bytes-held", title: "Memory and log", unit: "bytes", lines: ["memory", "log"], nothing: "The server gives no sizes." },
];

function buildCharts() {
  for (const chart of charts) {
    const canvas = element("canvas", [], { tabindex: 0, role: "img", "aria-label": chart.title, id: chart.id });
    const key = element("div", [], { class: "key", id: chart.id + "-key" });
    $("charts").append(element("figure", [element("figcaption", chart.title), canvas, key]));
    chartNames.set(chart.id, chart);
    canvas.addEventListener("pointermove", moved => mark(timeAt(canvas, moved.offsetX)));
    canvas.addEventListener("pointerleave", () => mark(null));
    canvas.addEventListener("keydown", pressed => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[pressed.key];
      if (pressed.key === "Escape") mark(null);
      if (!step || !samples.length) return;
      pressed.preventDefault();
      const from = marked == null ? samples.length - 1 : nearest(marked);
      mark(samples[Math.max(0, Math.min(samples.length - 1, from + step))].at);
    });
  }
}

const margin = { left: 46, right: 6, top: 8, bottom: 18 };
const lastTime = () => samples.length ? samples[samples.length - 1].at : Date.now();
// A page that was just opened shows its first minute, not a long empty axis.
const shownSeconds = () => Math.min(range, Math.max(60, samples.length ? (lastTime() - samples[0].at) / 1000 : 0));
const timeAt = (canvas, x) => lastTime() - shownSeconds() * 1000 * (1 - (x - margin.left) / (canvas.clientWidth - margin.left - margin.right));
function nearest(at) {
  let best = 0;
  samples.forEach((sample, i) => { if (Math.abs(sample.at - at) < Math.abs(samples[best].at - at)) best = i; });
  return best;
}
function mark(at) { marked = at; drawAll(); }

function addSample(at, values) {
  samples.push({ at, values });
  while (samples.length && samples[0].at < at - keptSeconds * 1000) samples.shift();
  drawAll();
}

// A step of 1, 2 or 5 times a power of ten, so that the axis has three or four round numbers.
function roundStep(most) {
  const power = 10 ** Math.floor(Math.log10(most / 3));
  return power * ([1, 2, 5].find(step => step * power >= most / 3) || 10);
}
const timeSteps = [10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

function drawAll() { charts.forEach(draw); }
function draw(chart) {
  const canvas = $(chart.id), scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width) return;
  canvas.width = width * scale; canvas.height = height * scale;
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement), colour = name => style.getPropertyValue(name);
  pen.scale(scale, scale); pen.font = "11px system-ui";
  const span = shownSeconds(), end = lastTime(), start = end - span * 1000, right = width - margin.right, bottom = height - margin.bottom;
  const shown = samples.filter(sample => sample.at >= start - 5000), values = shown.flatMap(sample => sample.values[chart.id]).filter(value => value != null);
  const step = roundStep(Math.max({ bytes: 1000, ms: .001 }[chart.unit] ?? 1, ...values) * 1.05), most = step * Math.ceil(Math.max(step, ...values) / step);
  const x = at => margin.left + (right - margin.left) * (at - start) / (end - start), y = value => bottom - (bottom - margin.top) * value / most;
  pen.strokeStyle = colour("--line"); pen.fillStyle = colour("--soft"); pen.lineWidth = 1; pen.textAlign = "right"; pen.textBaseline = "middle";
  for (let at = 0; at <= most * 1.001; at += step) {
    pen.beginPath(); pen.moveTo(margin.left, Math.round(y(at)) + .5); pen.lineTo(right, Math.round(y(at)) + .5); pen.stroke();
    pen.fillText(formatNumber(Number(at.toPrecision(6)), chart.unit === "bytes" ? "bytes" : ""), margin.left - 4, y(at));
  }
  pen.textAlign = "center"; pen.textBaseline = "alphabetic";
  const every = 1000 * (timeSteps.find(seconds => span / seconds <= Math.max(2, width / 90)) || 7200);
  for (let at = Math.ceil(start / every) * every; at <= end; at += every) {
    if (x(at) < margin.left + 16 || x(at) > right - 16) continue;
    pen.beginPath(); pen.moveTo(x(at), bottom); pen.lineTo(x(at), bottom + 4); pen.stroke();
    pen.fillText(clock(at, every < 60000), x(at), height - 4);
  }
  chart.lines.forEach((_, line) => drawLine(pen, shown, chart.id, line, x, y, colour(["--a", "--b", "--c"][line])));
  if (!values.length) { pen.fillStyle = colour("--soft"); pen.fillText(samples.length ? chart.nothing || "nothing yet" : "collecting…", (margin.left + right) / 2, height / 2 - 14); }
  const at = marked != null && shown.length ? samples[nearest(marked)] : null;
  if (at && at.at >= start) {
    pen.strokeStyle = colour("--soft"); pen.setLineDash([3, 3]); pen.beginPath(); pen.moveTo(x(at.at), margin.top); pen.lineTo(x(at.at), bottom); pen.stroke(); pen.setLineDash([]);
  }
  const read = at || samples[samples.length - 1], key = $(chart.id + "-key");
  key.replaceChildren(...chart.lines.flatMap((name, line) => [line ? " · " : "", element("b", name + " " + formatNumber(read?.values[chart.id][line], chart.unit), { class: "abc"[line] })]),
    at ? element("span", " at " + clock(at.at, true), { class: "quiet" }) : "");
}
function drawLine(pen, shown, id, line, x, y, colour) {
  pen.strokeStyle = pen.fillStyle = colour; pen.lineWidth = 1.5; pen.beginPath();
  let last = null;
  for (const sample of shown) {
    const value = sample.values[id][line];
    if (value == null) { last = null; continue; }
    const at = [Math.max(margin.left, x(sample.at)), y(value)];
    // A page in the background looks rarely. A line over a longer gap would claim to know.
    if (last && sample.at - last < 30000) pen.lineTo(...at); else { pen.fillRect(at[0] - 1, at[1] - 1, 2, 2); pen.moveTo(...at); }
    last = sample.at;
  }
  pen.stroke();
}
