"use strict";
// What goes over the wire: JSON whose ids keep every digit, and Prometheus' text.

// A double holds whole numbers up to 2^53, and ids go to 2^64. So a whole number of more than 15 digits is read as text.
function parse(text) {
  const token = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
  return JSON.parse(text.replace(token, found => /^-?\d{16,}$/.test(found) ? `"${found}"` : found));
}

// An id as JSON: text, which the server also reads where ids are numbers. So every digit is kept.
function encodeId(typed) {
  const id = String(typed).trim();
  if (id === "") throw new Error("An id is missing.");
  return JSON.stringify(id);
}

class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function request(path, body) {
  const headers = {};
  if ($("token").value) headers.authorization = "Bearer " + $("token").value;
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer, text;
  try {
    answer = await fetch(path, { headers, method: body === undefined ? "GET" : "POST", body, signal: AbortSignal.timeout(15000) });
    text = await answer.text();
  } catch (error) {
    throw new Refused(0, error.name === "TimeoutError" ? `${path} did not answer within 15 s.` : "The server cannot be reached.");
  }
  // A server that is not ready describes itself in its refusal.
  if (answer.ok || (path === "/health/ready" && answer.status === 503 && text.startsWith("{"))) return text;
  let why = "";
  try { why = parse(text).error; } catch { /* a proxy's answer is not JSON */ }
  throw new Refused(answer.status, why || `${path} answered ${answer.status}.`);
}
const requestJson = async (path, body) => parse(await request(path, body));

// Prometheus' text: values by name and labels, and the meaning of each name.
function readMetrics(text) {
  const values = new Map(), help = new Map();
  for (const line of text.split("\n")) {
    const meaning = line.match(/^# HELP (\S+) (.*)$/);
    if (meaning) help.set(meaning[1], meaning[2]);
    if (!line || line[0] === "#") continue;
    const cut = line.lastIndexOf(" ");
    values.set(line.slice(0, cut), Number(line.slice(cut + 1)));
  }
  return { values, help };
}
const metric = (metrics, name) => metrics.values.get("tempograph_" + name);
const labelled = (metrics, name) => [...metrics.values].filter(([key]) => key.startsWith(`tempograph_${name}{`));
const label = (key, name) => key.match(new RegExp(`${name}="([^"]*)"`))?.[1];
function sum(metrics, name, wanted = () => true) {
  let all = 0;
  for (const [key, count] of labelled(metrics, name)) if (wanted(key)) all += count;
  return all;
}

// A quantile of what a histogram has counted since `before`, by linear interpolation within a bucket. Without `before`, since the start.
function quantile(now, before, name, share, wanted = () => true) {
  const buckets = new Map();
  const add = (metrics, sign) => {
    for (const [key, count] of labelled(metrics, name + "_bucket")) {
      if (!wanted(key)) continue;
      const bound = label(key, "le"), at = bound === "+Inf" ? Infinity : Number(bound);
      buckets.set(at, (buckets.get(at) || 0) + sign * count);
    }
  };
  add(now, 1);
  if (before) add(before, -1);
  const all = buckets.get(Infinity) || 0;
  if (all <= 0) return null;
  let low = 0, below = 0;
  for (const bound of [...buckets.keys()].sort((a, b) => a - b)) {
    const within = buckets.get(bound);
    if (within >= share * all) return bound === Infinity ? low : low + (bound - low) * (share * all - below) / Math.max(1, within - below);
    [low, below] = [bound, within];
  }
  return low;
}
