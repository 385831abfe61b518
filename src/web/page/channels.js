// Channels: which there are, and the clients of the one that is looked at, as they are now.

import { ask } from "/api.js";
import { byId, copyOf, reconcile, setAttribute, setText, show } from "/element.js";
import { Stream } from "/events.js";
import { ago, count, visible } from "/words.js";

const LIST_EVERY = 4_000;

let names = [];
let chosen = null;
let stream = null;
let clients = new Map();
let state = "";

async function list() {
  if (document.hidden) return;
  try {
    names = (await ask("GET", "/api/channels")) ?? names;
  } catch {
    // The banner says it.
  }
  draw();
}

function choose(name) {
  stream?.close();
  stream = null;
  clients = new Map();
  chosen = name === chosen ? null : name;
  if (chosen !== null) {
    state = "";
    const channel = `/api/channels/${encodeURIComponent(chosen)}`;
    const watching = new Stream(`${channel}/events`, { snapshot, update, gone, wait }, (now) => {
      state = { connecting: state, live: "live", gone: "trying again" }[now];
      if (now === "gone") explain(watching, channel);
      draw();
    });
    stream = watching;
    stream.open();
  }
  draw();
}

/** A stream does not say why it failed. What will not change by itself is said, and not tried again. */
async function explain(watching, channel) {
  try {
    await ask("GET", channel);
  } catch (refusal) {
    if (watching !== stream || ![400, 403, 404, 413].includes(refusal.status)) return;
    watching.close();
    state = refusal.words;
    draw();
  }
}

function snapshot(data) {
  const at = new Date().toISOString();
  clients = new Map((data.clients ?? []).map((body) => [String(body.client_id), { body, at }]));
  state = "live";
  draw();
}

function update(body) {
  clients.set(String(body.client_id), { body, at: new Date().toISOString() });
  state = "live";
  draw();
}

function gone({ client_id: id }) {
  clients.delete(String(id));
  draw();
}

function wait() {
  state = "no machine leads; this is what was last heard";
  draw();
}

/** Once a frame, however much is posted. */
let drawing = 0;
function draw() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    drawNow();
  });
}

function drawNow() {
  const shown = chosen === null || names.includes(chosen) ? names : [...names, chosen];
  show(byId("channels-empty"), shown.length === 0);
  reconcile(byId("channel-list"), shown, (name) => name, makeChip, (chip, name) => setAttribute(chip, "aria-pressed", String(name === chosen)));
  show(byId("channel"), chosen !== null);
  if (chosen === null) return;
  setText(byId("channel-title"), visible(chosen));
  setText(byId("channel-state"), `${count(clients.size, "client", "clients")}${state ? ` · ${state}` : ""}`);
  const sorted = [...clients].sort(([a], [b]) => (a < b ? -1 : 1));
  reconcile(byId("channel-clients"), sorted, ([id]) => id, makeClient, updateClient);
}

function makeChip(name) {
  const chip = document.createElement("button");
  chip.type = "button";
  setText(chip, visible(name));
  chip.addEventListener("click", () => choose(name));
  return chip;
}

function makeClient([id]) {
  const { root, parts } = copyOf("t-client");
  root.parts = parts;
  setText(parts.id, visible(id));
  setAttribute(parts.body, "aria-label", `What ${visible(id)} says`);
  return root;
}

function updateClient({ parts }, [, { body, at }]) {
  if (parts.shown !== body) {
    parts.shown = body;
    setText(parts.body, JSON.stringify(body, null, 2));
  }
  setAttribute(parts.at, "datetime", at);
  setText(parts.at, ago(at));
}

/** The node is there: list, and look again at what is chosen. */
export function renewChannels() {
  list();
  stream?.open();
}

/** While nobody looks, no connection is held: a browser has six for one node, over all its windows. */
export function restChannels() {
  stream?.close();
}

export function startChannels() {
  setInterval(list, LIST_EVERY);
  byId("channel-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = byId("channel-name").value.trim();
    if (name === "" || name === chosen) return;
    choose(name);
    byId("channel-name").value = "";
  });
}
