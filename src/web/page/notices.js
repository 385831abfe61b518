// Notices at the edge: what was done, what failed, and the way back.

import { byId, copyOf, show } from "/element.js";

const STAYS = 10_000;
const MOST = 4;
let undo = null;

/** Shows `text`; with `act`, a button that does it. */
export function notice(text, { label, act, bad = false, isUndo = false } = {}) {
  const list = byId("notice-list");
  const { root, parts } = copyOf("t-notice");
  const entry = isUndo ? { act: null } : null;
  const close = () => {
    clearTimeout(timer);
    if (entry && undo === entry) undo = null;
    if (root.contains(document.activeElement)) byId("files").focus({ preventScroll: true });
    root.remove();
  };
  parts.text.textContent = text;
  root.classList.toggle("bad", bad);
  if (act) {
    parts.act.textContent = label;
    show(parts.act, true);
    const run = () => {
      close();
      act();
    };
    parts.act.addEventListener("click", run);
    if (entry) {
      entry.act = run;
      undo = entry;
      parts.act.setAttribute("aria-keyshortcuts", "Control+Z");
      parts.act.title = "Ctrl+Z";
    }
  }
  parts.close.addEventListener("click", close);
  let timer = 0;
  const start = () => {
    clearTimeout(timer);
    timer = setTimeout(() => (root.matches(":hover, :focus-within") ? start() : close()), STAYS);
  };
  start();
  list.append(root);
  while (list.children.length > MOST) list.firstElementChild.remove();
}

export const failed = (what, refusal) => notice(`${what}: ${refusal.words ?? refusal.message}`, { bad: true });

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input:not([type=file]), textarea, select");
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key === "z" && !typing && undo) {
    event.preventDefault();
    undo.act();
  }
});
