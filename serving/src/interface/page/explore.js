"use strict";
// Queries nodes and pairs, and submits an event on request.

let explored = false;

// At first sight: what the address names, or a source that the server names.
function exploreFirst() {
  if (explored) return;
  const named = new URLSearchParams(location.hash.slice(1)), src = named.get("src") ?? modelInfo?.example;
  if (src == null) return;
  explored = true;
  const form = $("explore");
  form.elements.src.value = src;
  form.elements.dst.value = named.get("dst") ?? "";
  explore();
}

const percent = share => (100 * share).toFixed(2) + " %";
const rank = async src => (await requestJson("/v1/rank", `{"src":${encodeId(src)},"k":10}`));

async function explore() {
  const form = $("explore"), src = form.elements.src.value.trim(), typed = form.elements.dst.value.trim();
  explored = true;
  setText("explain-said", "");
  try {
    const answer = await rank(src);
    setText("explore-said", `Source ${src}, after event ${answer.log_seq} of the log, by ${answer.model}:`);
    table("ranked", ["", "destination", "score", "probability", ""], answer.ranked.map((one, place) => {
      const why = element("button", "explain", { type: "button", class: "plain", "aria-label": `explain ${src} to ${one.dst}` });
      why.addEventListener("click", () => { form.elements.dst.value = one.dst; explain(src, String(one.dst)); });
      return [place + 1, one.dst, one.score.toFixed(4), percent(one.probability), why];
    }), "There is no destination yet.");
    const dst = typed || (answer.ranked.length ? String(answer.ranked[0].dst) : "");
    if (dst) await explain(src, dst); else table("neighbours", [], [], "There is no pair to explain yet.");
  } catch (error) {
    setText("explore-said", error.message);
    $("ranked").replaceChildren(); $("neighbours").replaceChildren();
  }
}

async function explain(src, dst) {
  $("link").href = "#" + new URLSearchParams({ src, dst });
  try {
    const answer = await requestJson("/v1/explain", `{"src":${encodeId(src)},"dst":${encodeId(dst)}}`), found = answer.explanation || answer;
    setText("explain-said", `${src} to ${dst}: score ${found.score.toFixed(4)}, probability ${percent(found.probability)}`);
    const mean = weights => weights.reduce((a, b) => a + b, 0) / weights.length;
    const lines = (end, neighbours) => neighbours.map(one => {
      const top = one.weights?.length && one.weights[one.weights.length - 1].length ? mean(one.weights[one.weights.length - 1]) : null;
      const bar = element("span", [], { class: "weight" });
      bar.style.width = (top == null ? 0 : 6 * top) + "rem";
      return [end, one.node, one.time ?? "–", one.seq, element("td", [bar, top == null ? "–" : percent(top)])];
    });
    table("neighbours", ["of the", "neighbour", "time", "event", "attention of the last layer"], [...lines("source", found.src), ...lines("destination", found.dst)], "Neither end has a neighbour.");
  } catch (error) {
    setText("explain-said", error.message);
    $("neighbours").replaceChildren();
  }
}

// An id makes a repeated submission harmless: the log applies each id once.
function newEventId() {
  const random = crypto.getRandomValues(new Uint8Array(12));
  return "page-" + [...random].map(byte => byte.toString(16).padStart(2, "0")).join("");
}

async function submitEvent(form) {
  const field = name => form.elements[name].value.trim(), src = field("src"), dst = field("dst");
  const model = await requestJson("/v1/model");
  const time = field("time") || String(model.newest ?? "");
  if (!/^-?\d+(\.\d+)?$/.test(time)) throw new Error(time ? `The time “${time}” is not a number.` : "Enter a time: the server has no newest event.");
  if (!field("id")) throw new Error("Enter an id, so that a repeated submission is one event.");
  const was = new Map((await settle(rank(src))).value?.ranked.map((one, place) => [String(one.dst), { ...one, place }]) ?? []);
  const width = Number(model.manifest?.widths?.edge) || 0;
  const features = width ? `,"features":[${Array(width).fill(0).join(",")}]` : "";
  const receipt = await requestJson("/v1/events", `{"events":[{"src":${encodeId(src)},"dst":${encodeId(dst)},"time":${time},"id":${JSON.stringify(field("id"))}${features}}],"ack":"applied"}`);
  const done = Number(receipt.accepted) ? `Event ${receipt.first_seq} is applied.` : "An event with this id was applied before. Nothing has changed.";
  setText("event-said", done + (width ? ` Its ${width} features are 0.` : "") + ` The best destinations of ${src} now:`);
  table("moved", ["", "destination", "score", "before", "change", "probability"], (await rank(src)).ranked.map((one, place) => {
    const old = was.get(String(one.dst)), by = old ? one.score - old.score : null;
    const change = element("span", by == null ? "new in this list" : (by >= 0 ? "+" : "") + by.toFixed(4), { class: by >= 0 ? "up" : "down" });
    return [place + 1, one.dst, one.score.toFixed(4), old ? old.score.toFixed(4) : "–", change, percent(one.probability)];
  }), "There is no destination.");
  form.elements.id.value = newEventId();
  form.elements.sure.checked = false;
}
