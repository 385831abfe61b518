// What happened, newest first, and what moves now.

import { byId, copyOf, reconcile, setAttribute, setText, show } from "/element.js";
import { ago, fullTime, size, visible } from "/words.js";

const MOST = 200;
const TONES = { "node.lost": "bad", "file.removed": "off", "proxy.changed": "warn", "replicas.changed": "off", message: "off" };
const DIRECTIONS = { upload: "coming in", download: "going out", copy: "being copied" };
let happenings = [];
let number = 0;
let drawing = 0;

/** Forgets the feed: the node tells the last of it when a stream begins. */
export function beginActivity() {
  happenings = [];
  const list = byId("activity-list");
  // The past is not read out.
  list.setAttribute("aria-live", "off");
  setTimeout(() => list.setAttribute("aria-live", "polite"), 1_500);
}

export function addActivity(happening) {
  number += 1;
  happenings.unshift({ ...happening, number });
  happenings.length = Math.min(happenings.length, MOST);
  drawing ||= requestAnimationFrame(draw);
}

function draw() {
  drawing = 0;
  show(byId("activity-empty"), happenings.length === 0);
  reconcile(byId("activity-list"), happenings, (one) => one.number, makeHappening, () => {});
}

function makeHappening(happening) {
  const { root, parts } = copyOf("t-happening");
  setText(parts.text, visible(happening.text));
  setAttribute(root.firstElementChild, "data-tone", TONES[happening.what] ?? "good");
  parts.at.dateTime = happening.at;
  parts.at.title = fullTime(happening.at);
  setText(parts.at, ago(happening.at));
  return root;
}

/** Shows the transfers that this node takes part in. */
export function showTransfers({ transfers }) {
  show(byId("transfers"), transfers.length > 0);
  reconcile(byId("transfer-list"), transfers, (one) => one.id, makeTransfer, updateTransfer);
}

function makeTransfer(transfer) {
  const { root, parts } = copyOf("t-transfer");
  root.parts = parts;
  setText(parts.name, visible(transfer.name));
  parts.name.title = visible(transfer.name);
  setAttribute(parts.progress, "aria-label", `${visible(transfer.name)}, ${DIRECTIONS[transfer.direction] ?? ""}`);
  return root;
}

function updateTransfer({ parts }, { direction, bytes, total }) {
  const word = DIRECTIONS[direction] ?? direction;
  setText(parts.words, total === null ? `${word}, ${size(bytes)}` : `${word}, ${size(bytes)} of ${size(total)}`);
  if (total) parts.progress.value = Math.min(1, bytes / total);
  else parts.progress.removeAttribute("value");
}

/** Words like "3 min ago" grow old. */
export function renewTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) setText(time, ago(time.dateTime));
}
