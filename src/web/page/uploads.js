// Uploads: what was picked, dropped or photographed, two at a time, each with its line.

import { COPIES_MAX } from "/copies.js";
import { droppedFiles } from "/dropped.js";
import { byId, copyOf, reconcile, say, setAttribute, setText, show } from "/element.js";
import { Upload } from "/upload.js";
import { count, duration, number, size, visible } from "/words.js";

// A browser opens six connections to one node; the streams and the questions need some.
const AT_ONCE = 2;
const LINES_MAX = 60;
const COPIES_DEFAULT = 2;

let uploads = [];
let copies = COPIES_DEFAULT;
let drawing = 0;

/** Takes files with their names, which may have folders. */
function add(files) {
  const folder = byId("folder").value.trim().replace(/^\/+|\/+$/g, "");
  for (const { file, name } of files) {
    uploads.push(new Upload(file, folder ? `${folder}/${name}` : name, copies, changed));
  }
  next();
}

function next() {
  let free = AT_ONCE - uploads.filter((one) => one.state === "sending" || one.state === "stalled").length;
  for (const one of uploads) {
    if (free <= 0) break;
    if (one.state !== "waiting") continue;
    free -= 1;
    one.run().then(next);
  }
  drawSoon();
}

function changed(upload) {
  drawSoon();
  if (upload.said === upload.state) return;
  upload.said = upload.state;
  if (upload.state === "done") say(`${visible(upload.name)} is stored`);
  if (upload.state === "failed" || upload.state === "exists") say(`${visible(upload.name)}: ${upload.why}`);
}

/** The node is back: what waits goes on now. */
export function hurryUploads() {
  for (const one of uploads) if (one.state === "stalled") one.hurry();
}

const drawSoon = () => (drawing ||= setTimeout(draw, 60));

function draw() {
  drawing = 0;
  const running = uploads.filter((one) => !one.isOver);
  const done = uploads.filter((one) => one.state === "done");
  show(byId("uploads"), uploads.length > 0);
  show(byId("uploads-clear"), running.length < uploads.length);
  show(byId("uploads-stop"), running.length > 1);
  setText(byId("uploads-sum"), sum(running, done));
  // Those that need a look first; of thousands that wait, the next ones.
  const rank = { exists: 0, failed: 0, stalled: 1, sending: 1, waiting: 2, done: 3 };
  const lines = [...uploads].sort((a, b) => rank[a.state] - rank[b.state]).slice(0, LINES_MAX);
  reconcile(byId("uploads-list"), lines, (one) => one, makeLine, updateLine);
}

function sum(running, done) {
  if (running.length === 0) return done.length ? `${count(done.length, "file", "files")} stored` : "";
  const left = running.reduce((bytes, one) => bytes + one.file.size - one.sent, 0);
  const speed = running.reduce((total, one) => total + (one.state === "sending" ? one.speed : 0), 0);
  const words = [uploads.length > 1 ? `${number(done.length)} of ${number(uploads.length)} stored` : "Uploading", `${size(left)} to go`];
  if (speed > 0) words.push(`${size(speed)}/s`, duration(left / speed));
  return words.join(" · ");
}

function makeLine(upload) {
  const { root, parts } = copyOf("t-upload");
  root.parts = parts;
  const name = visible(upload.name);
  setText(parts.name, name);
  parts.name.title = name;
  setAttribute(parts.progress, "aria-label", `Upload of ${name}`);
  setAttribute(parts.replace, "aria-label", `Replace ${name}`);
  setAttribute(parts.again, "aria-label", `Try ${name} again`);
  const again = (mayReplace) => {
    upload.reset(mayReplace);
    next();
  };
  parts.replace.addEventListener("click", () => again(true));
  parts.again.addEventListener("click", () => again(false));
  parts.cancel.addEventListener("click", () => {
    upload.cancel();
    uploads = uploads.filter((one) => one !== upload);
    next();
  });
  return root;
}

function updateLine({ parts }, upload) {
  const { file, state, sent, why } = upload;
  setText(parts.words, words(upload));
  parts.progress.value = state === "done" || file.size === 0 ? Number(state === "done") : sent / file.size;
  setAttribute(parts.progress, "data-state", state);
  setAttribute(parts.cancel, "aria-label", `${upload.isOver ? "Take off the list:" : "Cancel"} ${visible(upload.name)}`);
  setText(parts.why, why);
  show(parts.trouble, why !== "");
  setAttribute(parts.trouble, "data-state", state);
  show(parts.replace, state === "exists");
  show(parts.again, state === "failed");
}

function words({ state, file, sent, row }) {
  if (state === "waiting") return size(file.size);
  if (state === "done") return row ? `stored · ${row.replicas} of ${row.replicas_wanted} copies` : "stored";
  if (state === "sending" || state === "stalled") {
    return sent === file.size ? "making copies" : `${size(sent)} of ${size(file.size)}`;
  }
  return size(file.size);
}

function setCopies(by) {
  copies = Math.min(COPIES_MAX, Math.max(1, copies + by));
  setText(byId("copies"), String(copies));
  setAttribute(byId("copies-fewer"), "aria-disabled", copies === 1 ? "true" : null);
}

/** Pictures of a phone often have one and the same name. */
function photoName(file) {
  const at = new Date(file.lastModified || Date.now());
  const two = (value) => String(value).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const ending = /\.[A-Za-z0-9]{1,5}$/.exec(file.name)?.[0] ?? ".jpg";
  return `${file.type.startsWith("video") ? "Video" : "Photo"} ${day} ${two(at.getHours())}.${two(at.getMinutes())}.${two(at.getSeconds())}${ending}`;
}

function startPicking() {
  const pickers = [
    ["pick", "files-input", (file) => file.name],
    ["pick-camera", "camera-input", photoName],
    ["pick-folder", "folder-input", (file) => file.webkitRelativePath || file.name],
  ];
  for (const [button, input, nameOf] of pickers) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", () => {
      add([...byId(input).files].map((file) => ({ file, name: nameOf(file) })));
      byId(input).value = "";
    });
  }
}

function startDropping() {
  const veil = byId("drop-veil");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  let leaving = 0;
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    clearTimeout(leaving);
    show(veil, true);
    // No event says reliably that a drag has left the window; that none comes any more does.
    leaving = setTimeout(() => show(veil, false), 250);
  });
  document.addEventListener("drop", async (event) => {
    show(veil, false);
    if (!hasFiles(event)) return;
    event.preventDefault();
    add(await droppedFiles(event.dataTransfer));
  });
}

export function startUploads() {
  startPicking();
  startDropping();
  byId("copies-fewer").addEventListener("click", () => setCopies(-1));
  byId("copies-more").addEventListener("click", () => setCopies(1));
  byId("uploads-clear").addEventListener("click", () => {
    uploads = uploads.filter((one) => !one.isOver);
    draw();
    byId("pick").focus({ preventScroll: true });
  });
  byId("uploads-stop").addEventListener("click", () => {
    const running = uploads.filter((one) => !one.isOver);
    uploads = uploads.filter((one) => one.isOver);
    for (const one of running) one.cancel();
    draw();
  });
  window.addEventListener("online", hurryUploads);
  window.addEventListener("beforeunload", (event) => {
    if (uploads.some((one) => !one.isOver)) event.preventDefault();
  });
}
