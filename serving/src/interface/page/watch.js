"use strict";
// Looks at the server every two seconds: problems, tiles, charts and tables.

const period = 2000;
let previous = null, lastLook = null, paused = false, modelInfo = null, looks = 0, refusedList = null;

const isRead = key => /route="\/v1\/(score|rank|embedding|explain)"|route="[^"]*[iI]nfer"|route="\/tempograph\.v1\.Reads/.test(key);
const grpcStatus = { OK: 200, CANCELLED: 499, UNKNOWN: 500, INVALID_ARGUMENT: 400, DEADLINE_EXCEEDED: 504, NOT_FOUND: 404, ALREADY_EXISTS: 409, PERMISSION_DENIED: 403, RESOURCE_EXHAUSTED: 429, FAILED_PRECONDITION: 409, ABORTED: 409, OUT_OF_RANGE: 400, UNIMPLEMENTED: 404, INTERNAL: 500, UNAVAILABLE: 503, DATA_LOSS: 500, UNAUTHENTICATED: 401 };
const statusOf = key => { const said = label(key, "status") ?? label(key, "code"); return grpcStatus[said] ?? Number(said); };
const isProbe = key => /route="[^"]*(health|\/metrics)/.test(key);
const overCapacity = status => status === 429 || status === 503 || status === 504;
const failures = {
  wrong: key => { const status = statusOf(key); return !isProbe(key) && status >= 400 && status < 500 && status !== 429 && status !== 499; },
  busy: key => !isProbe(key) && overCapacity(statusOf(key)),
  fault: key => !isProbe(key) && statusOf(key) >= 500 && !overCapacity(statusOf(key)),
};

async function settle(asked) {
  try { return { value: await asked }; } catch (error) { return { error }; }
}

async function look() {
  if (paused) return;
  const [health, text, state] = await Promise.all([settle(request("/health/ready")), settle(request("/metrics")), settle(requestJson("/v1/status"))]);
  const at = Date.now();
  let ready = null;
  if (health.value != null) try { ready = parse(health.value); } catch { ready = { error: health.value }; }
  const metrics = text.value == null ? null : readMetrics(text.value), status = state.value ?? null;
  lastLook = { at, ready, metrics, status, errors: [health.error, text.error, state.error].filter(error => error != null) };
  showState(ready, health.error);
  if (metrics) {
    addSample(at, measure(metrics, at));
    previous = { at, metrics, first: previous?.first ?? metrics };
  } else previous = null;
  if (looks++ % 5 === 0) await lookSlowly(status);
  showTiles(metrics, status);
  showProblems(findProblems(lastLook));
  showTables(metrics, status);
}

// What changes rarely is asked for every tenth second.
async function lookSlowly(status) {
  const refused = status?.refused_list ? requestJson("/v1/refused?limit=20") : null;
  const [model, list] = await Promise.all([settle(requestJson("/v1/model")), settle(refused)]);
  modelInfo = model.value ?? modelInfo;
  refusedList = list.value ?? null;
  if (modelInfo) { setText("model", modelInfo.model); exploreFirst(); }
}

function showState(ready, error) {
  const word = error ? "no answer" : ready?.status || ready?.error || "unknown";
  setText("state", word);
  $("state").className = "pill " + (["ready", "following"].includes(word) ? "good" : "bad");
}

function measure(now, at) {
  const before = previous?.metrics, seconds = previous ? (at - previous.at) / 1000 : null;
  const rate = (name, wanted) => {
    if (!before) return null;
    const count = metrics => wanted ? sum(metrics, name, wanted) : metric(metrics, name);
    // After a restart of the server the counters begin at 0.
    return Math.max(0, count(now) - count(before)) / seconds;
  };
  const ms = (name, share, wanted) => { const found = quantile(now, before, name, share, wanted); return found == null ? null : 1000 * found; };
  const asked = rate("embeddings_asked_total"), computed = rate("embeddings_computed_total");
  return {
    latency: [.5, .99, .999].map(share => ms("request_seconds", share, isRead)),
    throughput: [rate("events_total"), rate("request_seconds_count", isRead)],
    failed: [rate("requests_total", failures.wrong), rate("requests_total", failures.busy), rate("requests_total", failures.fault)],
    lag: [metric(now, "lag_events") ?? null],
    staleness: [.5, .99].map(share => ms("staleness_seconds", share)),
    computed: [asked > 0 ? 100 * computed / asked : null],
    "bytes-held": [memoryBytes(now), metric(now, "log_bytes") ?? null],
  };
}
// 0 where the system does not tell it.
const memoryBytes = metrics => metric(metrics, "memory_bytes") || null;

function showTiles(metrics, status) {
  if (!metrics && !status) {
    if (samples.length) setText("since", `The server does not answer. The numbers are of ${clock(lastTime(), true)}.`);
    return;
  }
  const m = name => metrics ? metric(metrics, name) : null, last = status?.snapshots?.last;
  const tiles = [
    ["events applied", formatNumber(status?.applied.log_seq ?? m("log_seq"))],
    ["nodes", formatNumber(m("nodes") ?? modelInfo?.nodes)],
    ["waiting events", formatNumber(m("lag_events"))],
    ["waiting reads", formatNumber(m("reads_waiting"))],
    ["time of the newest event", modelInfo?.newest ?? "–"],
    ["log", formatBytes(m("log_bytes") ?? 0)],
    ["memory", metrics && memoryBytes(metrics) != null ? formatBytes(memoryBytes(metrics)) : null],
    ["free disk", m("disk_free_bytes") != null ? formatBytes(m("disk_free_bytes")) : null],
    ["newest snapshot", last ? formatSeconds(Number(status.snapshots.age_seconds)) + " ago" : "none yet"],
    ["connections", formatNumber(m("connections"))],
  ].filter(([, value]) => value != null);
  $("tiles").replaceChildren(...tiles.map(([name, value]) => element("div", [element("dt", name), element("dd", value)])));
  setText("seen", formatNumber(status?.applied.log_seq ?? m("log_seq")) + " events applied");
  setText("since", samples.length ? "The charts begin at " + clock(samples[0].at, true) + ", when this page was opened." : "");
}

// Each problem: how bad, what, and what to do.
function findProblems({ at, ready, metrics, status, errors }) {
  const found = [], bad = (...text) => found.push(["bad", ...text]), warn = (...text) => found.push(["warn", ...text]);
  if (errors.some(error => error.status === 0)) bad("The server cannot be reached.", "Check that its process runs, and that this machine can connect to it.");
  const proxy = errors.find(error => error.status === 502 || (error.status >= 500 && !ready && !metrics));
  if (proxy) bad(`The server cannot be reached through its proxy. ${proxy.message}`, "Check that its process runs, and that the proxy can connect to it.");
  const denied = errors.find(error => error.status === 401 || error.status === 403);
  if (denied) warn(denied.message, "Enter a token with the role `metrics` or `read` above.");
  if (ready && !["ready", "following"].includes(ready.status)) {
    const progress = ready.status === "recovering" ? `${formatNumber(Number(ready.applied))} of ${formatNumber(Number(ready.of))} events are replayed.` : ready.why || ready.error || "";
    bad(`The server is not ready: ${ready.status || "unknown"}. ${progress}`, ready.status === "recovering" ? "It becomes ready by itself." : "Its log says more.");
  }
  const before = sampleAgo(60), minute = name => metrics && before ? (metric(metrics, name) ?? 0) - (metric(before, name) ?? 0) : 0;
  if (status?.log_failing) bad("The log cannot be written. Events are refused.", "Check the disk of the log: free space, permissions, errors of the device.");
  else if (minute("log_failures_total") > 0) bad("The log could not be written within the last minute.", "Check the disk of the log.");
  if (minute("not_finite_total") > 0) bad(`${minute("not_finite_total")} answers of the last minute were not finite, and refused.`, "Check the features of recent events, or go back to other weights.");
  if (metrics && before) {
    const counted = wanted => sum(metrics, "requests_total", wanted) - sum(before, "requests_total", wanted);
    const fault = counted(failures.fault), busy = counted(failures.busy), all = counted(key => !isProbe(key));
    if (fault > 0) bad(`${formatNumber(fault)} requests of the last minute failed by a fault of the server.`, "The server's log names each.");
    if (busy > 0) (busy > .01 * all ? bad : warn)(`${formatNumber(busy)} of ${formatNumber(all)} requests of the last minute were over capacity (429, 503 or 504).`, "See the tenants below. More cores, longer deadlines or smaller rankings help.");
  }
  const late = minute("late_requests_total"), invalid = minute("refused_requests_total");
  if (late > 0) warn(`${formatNumber(late)} requests of the last minute were refused for late events.`, "Look at the producers' clocks and order, and at `late` in the settings.");
  if (invalid > 0) warn(`${formatNumber(invalid)} requests of the last minute were refused for invalid events.`, "Each refusal names the event and the field. Look at the producers' logs.");
  if (minute("connections_refused_total") > 0) warn(`${minute("connections_refused_total")} connections of the last minute were refused.`, "See limits.connections and limits.connections_per_address.");
  const lag = samples.slice(-15).map(sample => sample.values.lag[0]);
  if (lag.length === 15 && lag.every(value => value > 0) && lag[14] > 2 * lag[0]) warn(`${formatNumber(lag[14])} accepted events wait, and their number grows.`, "Events come faster than they are applied.");
  const snapshots = status?.snapshots;
  if (Number(snapshots?.failures) > 0) warn(`${snapshots.failures} snapshots could not be written since the start.`, "Check the disk of the snapshots. The next start replays more of the log.");
  if (Number(status?.passed_over) > 0) warn(`${status.passed_over} snapshots were damaged at the start, and an older one was used.`, "Check the disk of the snapshots.");
  const refused = Number(refusedList?.kept ?? status?.refused_list?.kept ?? 0);
  if (refused > 0) warn(`${formatNumber(refused)} refused events are kept.`, "They are listed below. Submit them again, or remove them from the list.");
  const expires = metrics && metric(metrics, "certificate_not_after_seconds");
  if (expires && expires - at / 1000 < 14 * 86400) (expires < at / 1000 ? bad : warn)(expires < at / 1000 ? "The certificate has expired." : `The certificate expires in ${formatSeconds(expires - at / 1000)}.`, "Replace the files that [tls] names.");
  if (metrics) findFullBudgets(metrics, bad, warn);
  return found;
}

// A budget of 0 is no bound. The warning comes before the server refuses.
function findFullBudgets(metrics, bad, warn) {
  for (const [name, used, budget, show, todo] of [
    ["memory", memoryBytes(metrics), metric(metrics, "budget_memory_bytes"), formatBytes, "Let nodes expire (`engine.ttl`), or give the process more memory."],
    ["nodes", metric(metrics, "nodes"), metric(metrics, "budget_nodes"), formatNumber, "Let nodes expire (`engine.ttl`), or allow more (`budget.nodes`)."],
  ]) {
    if (!(budget > 0) || !(used > .8 * budget)) continue;
    const full = used >= budget;
    (full ? bad : warn)(`${show(used)} of ${show(budget)} of ${name} are used.${full ? " Events are refused." : ""}`, todo);
  }
  const free = metric(metrics, "disk_free_bytes"), reserve = metric(metrics, "budget_disk_free_bytes");
  if (free == null || !(reserve > 0) || free > 4 * reserve) return;
  const full = free <= reserve;
  (full ? bad : warn)(`The disk of the log has ${formatBytes(free)} free.${full ? " Events are refused." : ""}`, `Free space: ${formatBytes(reserve)} have to stay free.`);
}

const history = [];
function sampleAgo(seconds) {
  if (!lastLook?.metrics) return null;
  const { at, metrics } = lastLook;
  // The counters of another process say nothing about this one's.
  if (history.length && metric(metrics, "connections_total") < metric(history[history.length - 1].metrics, "connections_total")) history.length = 0;
  history.push({ at, metrics });
  while (history.length > 2 && history[1].at <= at - seconds * 1000) history.shift();
  return history.length > 1 ? history[0].metrics : null;
}

function showProblems(found) {
  const lines = found.length ? found.map(([kind, what, todo]) => element("li", [element("b", what), " ", element("span", todo, { class: "quiet" })], { class: kind })) : [element("li", "Nothing that this page can see.", { class: "fine" })];
  const shown = lines.map(line => line.outerHTML).join("");
  // Screen readers read the list again when it changes, and only then.
  if ($("problems").dataset.shown !== shown) { $("problems").replaceChildren(...lines); $("problems").dataset.shown = shown; }
  document.title = (found.some(([kind]) => kind === "bad") ? "● " : "") + "Tempograph";
}

function showTables(metrics, status) {
  if (status) {
    const tenants = status.scheduler.tenants;
    table("tenants", ["tenant", "waiting reads", "its reads come"], tenants.map(one => [one.name || "(no name)", one.waiting, one.group]), "No tenant has sent a read yet. A tenant is the name of a token, or of the header `tenant`.");
    const last = status.snapshots.last;
    table("log", ["", ""], [
      ["events on disk", formatNumber(Number(status.durable_seq))],
      ["events applied", formatNumber(Number(status.applied.log_seq))],
      ["log", formatBytes(Number(status.log_bytes))],
      ["flushes since the start", formatNumber(Number(status.groups))],
      ["events replayed at the start", formatNumber(Number(status.replayed))],
      ["events accepted since the start", formatNumber(Number(status.accepted))],
      ["duplicates", formatNumber(Number(status.duplicates))],
      ["requests refused for late events", formatNumber(Number(status.late_refused))],
      ["requests refused for invalid events", formatNumber(Number(status.refused))],
      ["newest snapshot", last ? `${last.number}, of ${formatNumber(Number(last.log_seq))} events, ${formatSeconds(Number(status.snapshots.age_seconds))} ago` : "none yet"],
      ["its writing took", last ? Number(status.snapshots.took_seconds).toFixed(2) + " s" : "–"],
      ["snapshots that failed", formatNumber(Number(status.snapshots.failures))],
    ], "");
  }
  if (metrics) {
    const failed = labelled(metrics, "requests_total").filter(([key, count]) => count > 0 && statusOf(key) >= 400).sort((a, b) => b[1] - a[1]).slice(0, 20);
    table("errors", ["route", "status", "since the start"], failed.map(([key, count]) => [label(key, "route"), label(key, "status") ?? label(key, "code"), formatNumber(count)]), "No request has failed since the start.");
    const sizes = [...metrics.values].filter(([key]) => /_bytes$/.test(key));
    table("bytes", ["", "", "meaning"], sizes.map(([key, value]) => [key.replace(/^tempograph_/, ""), formatBytes(value), element("td", metrics.help.get(key) || "", { class: "text quiet" })]), "The server gives no sizes.");
    if ($("all-section").open) showAll(metrics);
  }
  $("refused-section").hidden = !(Number(refusedList?.kept) > 0);
  if (!$("refused-section").hidden) {
    setText("refused-said", `${formatNumber(Number(refusedList.kept))} are kept, ${formatNumber(Number(refusedList.dropped))} older ones were dropped. The first are:`);
    table("refused-events", ["number", "refused at", "source", "destination", "time", "why"], refusedList.events.map(one => [one.number, new Date(1000 * one.refused_at).toLocaleString(), one.event.src, one.event.dst, one.event.time, element("td", one.error, { class: "text" })]), "");
  }
}

function showAll(metrics) {
  const wanted = $("filter").value.toLowerCase(), meaning = key => metrics.help.get(key.replace(/\{.*/, "").replace(/_(sum|count)$/, "")) || "";
  const rows = [...metrics.values].filter(([key]) => !key.includes("_bucket{") && (key + " " + meaning(key)).toLowerCase().includes(wanted));
  table("all", ["metric", "value", "meaning"], rows.slice(0, 400).map(([key, value]) => [key, formatNumber(value), element("td", meaning(key), { class: "text quiet" })]), "No metric has this text.");
}
