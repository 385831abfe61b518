// The number of copies of a file: shown as dots, changed by a stepper, and watched until it is true.

import { ask } from "/api.js";
import { say, setAttribute, setText } from "/element.js";
import { failed } from "/notices.js";
import { inPath, visible } from "/words.js";

export const COPIES_MAX = 64;
const DOTS_MAX = 7;
const SETTLE = 300;

/** By name: what was asked for and is not answered yet. */
const asked = new Map();
/** Names whose copies are announced when they are there. */
const watched = new Set();

/** Asks for one more or one fewer; several presses become one question. */
export function step(row, by, onRow) {
  const wanted = Math.min(COPIES_MAX, Math.max(1, wantedOf(row) + by));
  if (wanted === wantedOf(row)) return;
  const one = asked.get(row.name) ?? {};
  clearTimeout(one.timer);
  one.wanted = wanted;
  one.timer = setTimeout(() => send(row, one, onRow), SETTLE);
  asked.set(row.name, one);
  say(`${wanted} ${wanted === 1 ? "copy" : "copies"} wanted of ${visible(row.name)}`);
  onRow(row);
}

async function send(row, one, onRow) {
  const { name } = row;
  const { wanted } = one;
  let now = null;
  try {
    now = await ask("PATCH", `/api/files/${inPath(name)}`, { body: { replicas: wanted } });
    watched.add(name);
  } catch (refusal) {
    failed(`Copies of ${visible(name)} not changed`, refusal);
  }
  // Pressed again meanwhile: that one speaks.
  if (one.wanted !== wanted) return;
  asked.delete(name);
  onRow(now ?? row);
}

export const wantedOf = (row) => asked.get(row.name)?.wanted ?? row.replicas_wanted;

/** Draws the copies of `row` into the parts of its line. */
export function showCopies(parts, row) {
  const wanted = wantedOf(row);
  const { replicas } = row;
  const words = `${replicas} of ${wanted}`;
  if (parts.count.textContent !== words && parts.count.textContent !== "" && watched.has(row.name) && replicas === wanted) {
    watched.delete(row.name);
    say(`${visible(row.name)}: ${words} copies`);
  }
  setText(parts.count, words);
  setAttribute(parts.stepper, "aria-label", `Copies of ${visible(row.name)}`);
  setAttribute(parts.fewer, "aria-label", `One copy fewer of ${visible(row.name)}`);
  setAttribute(parts.more, "aria-label", `One copy more of ${visible(row.name)}`);
  // Not `disabled`, which would throw away the focus.
  setAttribute(parts.fewer, "aria-disabled", wanted <= 1 ? "true" : null);
  setAttribute(parts.more, "aria-disabled", wanted >= COPIES_MAX ? "true" : null);
  drawDots(parts.dots, replicas, wanted, row.state);
}

function drawDots(dots, replicas, wanted, state) {
  const drawn = Math.max(replicas, wanted) <= DOTS_MAX ? Math.max(replicas, wanted) : 0;
  while (dots.children.length > drawn) dots.lastElementChild.remove();
  while (dots.children.length < drawn) dots.append(document.createElement("i"));
  [...dots.children].forEach((dot, index) => {
    const kind = index >= wanted ? "surplus" : index < replicas ? "there" : state === "degraded" || state === "lost" ? "missing" : "coming";
    if (dot.className !== kind) dot.className = kind;
  });
}
