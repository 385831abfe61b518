// The list of files: what the node found for this search, order and length, kept true by its events.

import { ask } from "/api.js";
import { showCopies, step } from "/copies.js";
import { byId, copyOf, reconcile, say, setAttribute, setText, show } from "/element.js";
import { failed, notice } from "/notices.js";
import { share } from "/share.js";
import { ago, fileState, fullTime, inPath, number, size, visible } from "/words.js";

const PAGE = 100;
const AT_ONCE = 200;
const LIST_EVERY = 700;

const view = { search: "", sort: "name", order: "asc", removed: false };
let shown = PAGE;
let rows = [];
let total = 0;
let problem = null;
let listing = false;
let listAgain = false;
let listTimer = 0;
let hasListed = false;

/** Lists anew, soon: changes that come together cost one question. */
export function listSoon(wait = LIST_EVERY) {
  listTimer ||= setTimeout(list, wait);
}

async function list() {
  clearTimeout(listTimer);
  listTimer = 0;
  if (listing) {
    listAgain = true;
    return;
  }
  listing = true;
  listAgain = false;
  const asked = JSON.stringify([view, shown]);
  try {
    const found = await fetchRows();
    if (asked === JSON.stringify([view, shown])) {
      [rows, total, problem, hasListed] = [found.rows, found.total, null, true];
    } else listAgain = true;
  } catch (refusal) {
    problem = refusal.words ?? refusal.message;
  }
  listing = false;
  draw();
  if (listAgain) listSoon(0);
}

async function fetchRows() {
  const found = new Map();
  let [all, offset] = [0, 0];
  do {
    const limit = Math.min(AT_ONCE, shown - offset);
    const query = new URLSearchParams({ search: view.search, sort: view.sort, order: view.order, limit, offset });
    if (view.removed) query.set("removed", "true");
    const page = await ask("GET", `/api/files?${query}`);
    for (const row of page.files) found.set(keyOf(row), row);
    all = page.total;
    offset += page.files.length;
    if (page.files.length < limit) break;
  } while (offset < Math.min(shown, all));
  return { rows: [...found.values()], total: all };
}

// In the trash, several versions may have had one name.
const keyOf = (row) => (row.removed ? `${row.name}\n${row.removed}\n${row.content}` : row.name);

/** What the stream said: rows that changed, names that went, or too much to say. */
export function filesChanged({ changed, removed, all }) {
  if (all || view.removed) return listSoon();
  const place = new Map(rows.map((row, index) => [row.name, index]));
  let isElsewhere = false;
  for (const row of changed) {
    if (place.has(row.name)) rows[place.get(row.name)] = row;
    else isElsewhere = true;
  }
  const gone = new Set(removed.filter((name) => place.has(name)));
  if (gone.size) {
    rows = rows.filter((row) => !gone.has(row.name));
    total -= gone.size;
  }
  if (isElsewhere || removed.length || view.sort !== "name") listSoon();
  draw();
}

function takeRow(row) {
  const index = rows.findIndex((other) => other.name === row.name && !other.removed);
  if (index >= 0) rows[index] = row;
  draw();
}

function draw() {
  const focused = document.activeElement?.closest("#rows > tr");
  if (focused && !rows.some((row) => keyOf(row) === focused.key)) leave(focused);
  reconcile(byId("rows"), rows, keyOf, makeRow, updateRow);
  for (const head of document.querySelectorAll("th[data-sort]")) {
    const is = head.dataset.sort === view.sort;
    setAttribute(head, "aria-sort", is ? (view.order === "asc" ? "ascending" : "descending") : null);
  }
  const choice = byId("sort");
  const value = `${view.sort} ${view.order}`;
  choice.value = [...choice.options].some((option) => option.value === value) ? value : "";
  const empty = problem ?? (hasListed && rows.length === 0 ? emptyWords() : "");
  setText(byId("files-empty"), empty);
  show(byId("files-empty"), empty !== "");
  const words = view.removed ? "removed" : view.search ? "found" : "";
  setText(byId("files-count"), rows.length === 0 ? "" : rows.length < total ? `${number(rows.length)} of ${number(total)} ${words}` : `${number(total)} ${total === 1 ? "file" : "files"} ${words}`);
  show(byId("show-more"), rows.length < total);
}

function emptyWords() {
  if (view.search) return `No ${view.removed ? "removed file" : "file"} has “${visible(view.search)}” in its name.`;
  return view.removed ? "Nothing was removed lately. What is removed stays here for a week." : "No files yet. Drop some anywhere on this page.";
}

function makeRow(row) {
  const { root, parts } = copyOf("t-row");
  root.parts = parts;
  const name = visible(row.name);
  const address = `/api/files/${inPath(row.name)}`;
  for (const link of [parts.link, parts.download]) {
    link.href = address;
    link.download = row.name.split("/").pop();
  }
  setText(parts.name, name);
  setText(parts.plain, name);
  parts.link.title = name;
  parts.plain.title = name;
  setAttribute(parts.download, "aria-label", `Download ${name}`);
  setAttribute(parts.share, "aria-label", `Link to share ${name}`);
  setAttribute(parts.remove, "aria-label", `Remove ${name}`);
  setAttribute(parts.restore, "aria-label", `Restore ${name}`);
  root.addEventListener("click", (event) => act(root, event.target.closest("[data-act]")?.dataset.act));
  return root;
}

function updateRow(root, row) {
  root.row = row;
  const { parts } = root;
  const isFile = row.content !== null;
  const isRemoved = Boolean(row.removed);
  show(parts.link, isFile && !isRemoved);
  show(parts.plain, !isFile || isRemoved);
  show(parts.kind, !isFile);
  setText(parts.kind, isFile ? "" : "link or folder");
  show(parts.download, isFile && !isRemoved);
  show(parts.share, isFile && !isRemoved);
  show(parts.remove, !isRemoved);
  show(parts.restore, isRemoved);
  show(parts.stepper, !isRemoved);
  setText(parts.size, isFile ? size(row.bytes) : "");
  const at = row.removed ?? row.modified;
  setAttribute(parts.modified, "datetime", at);
  parts.modified.title = `${isRemoved ? "removed " : ""}${fullTime(at)}`;
  setText(parts.modified, ago(at));
  setText(parts.where, isRemoved ? "" : (row.nodes ?? []).map(visible).join(", "));
  const state = isRemoved ? "" : fileState(row);
  setText(parts.state, state);
  show(parts.state, state !== "");
  setAttribute(parts.state, "data-state", row.state);
  if (!isRemoved) showCopies(parts, row);
}

function act(root, what) {
  const { row } = root;
  if (what === "fewer") step(row, -1, takeRow);
  else if (what === "more") step(row, 1, takeRow);
  else if (what === "share") share(row.name);
  else if (what === "remove") remove(root, row);
  else if (what === "restore") restore(row.name);
}

async function remove(root, { name }) {
  root.classList.add("going");
  try {
    await ask("DELETE", `/api/files/${inPath(name)}`);
  } catch (refusal) {
    root.classList.remove("going");
    failed(`${visible(name)} was not removed`, refusal);
    return;
  }
  rows = rows.filter((row) => row.name !== name);
  total = Math.max(rows.length, total - 1);
  draw();
  listSoon();
  notice(`Removed ${visible(name)}`, { label: "Undo", act: () => restore(name), isUndo: true });
}

async function restore(name) {
  try {
    await ask("POST", `/api/restore/${inPath(name)}`);
    if (view.removed) notice(`Restored ${visible(name)}`);
    else say(`Restored ${visible(name)}`);
    listSoon(0);
  } catch (refusal) {
    failed(`${visible(name)} was not restored`, refusal);
  }
}

/** Moves the focus on from a line that is about to go. */
function leave(root) {
  const next = root.nextElementSibling ?? root.previousElementSibling;
  const target = next && [next.parts.remove, next.parts.restore].find((button) => !button.hidden);
  (target ?? byId("search")).focus({ preventScroll: true });
}

/** Changes what is looked for, and looks. */
function look(change, wait = 0) {
  Object.assign(view, change);
  shown = PAGE;
  clearTimeout(listTimer);
  listTimer = 0;
  listSoon(wait);
}

export function startFiles() {
  byId("search").addEventListener("input", () => look({ search: byId("search").value.trim() }, 180));
  byId("search").addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || byId("search").value === "") return;
    byId("search").value = "";
    look({ search: "" });
  });
  for (const head of document.querySelectorAll("th[data-sort]")) {
    head.firstElementChild.addEventListener("click", () => {
      const { sort } = head.dataset;
      const first = sort === "name" || sort === "copies" ? "asc" : "desc";
      const other = first === "asc" ? "desc" : "asc";
      look({ sort, order: view.sort === sort && view.order === first ? other : first });
    });
  }
  byId("sort").addEventListener("change", () => {
    const [sort, order] = byId("sort").value.split(" ");
    look({ sort, order });
  });
  byId("show-more").addEventListener("click", () => {
    shown = rows.length + PAGE;
    listSoon(0);
  });
  for (const [id, removed] of [["show-stored", false], ["show-removed", true]]) {
    byId(id).addEventListener("click", () => {
      setAttribute(byId("show-stored"), "aria-pressed", String(!removed));
      setAttribute(byId("show-removed"), "aria-pressed", String(removed));
      byId("files").classList.toggle("removed", removed);
      [rows, total, hasListed] = [[], 0, false];
      look({ removed });
      draw();
    });
  }
}
