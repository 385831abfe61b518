// The machines, the state of the LAN in one sentence, and who may come in.

import { byId, copyOf, reconcile, setAttribute, setText, show } from "/element.js";
import { count, nodeState, number, role, size, visible } from "/words.js";

const LAMPS = { up: "good", suspect: "warn", away: "off", down: "bad", draining: "warn" };
const ORDER = { up: 0, draining: 0, suspect: 0, away: 1, down: 1 };

/** Shows what the node said of the cluster. */
export function showStatus(status) {
  const { cluster, nodes, files } = status;
  setText(byId("cluster"), visible(cluster.name));
  document.title = `${visible(cluster.name)} · thorp`;
  showSecured(cluster.secured);
  const up = nodes.filter((node) => node.state === "up" || node.state === "draining").length;
  setText(byId("machines-count"), `${up} of ${nodes.length} up`);
  setText(byId("summary"), sentence(files));
  setText(byId("summary-more"), more(files, nodes, up));
  const lead = (node) => (node.roles.includes("proxy") ? 0 : 1);
  const sorted = [...nodes].sort((a, b) => (ORDER[a.state] ?? 0) - (ORDER[b.state] ?? 0) || lead(a) - lead(b) || a.name.localeCompare(b.name));
  reconcile(byId("machine-list"), sorted, (node) => node.id, makeMachine, updateMachine);
}

export function showSecured(secured) {
  const mark = byId("secured");
  setText(mark.querySelector("span"), secured ? "closed LAN" : "open LAN");
  setAttribute(mark.querySelector("use"), "href", secured ? "#i-lock" : "#i-unlock");
  mark.title = secured ? "Only who has the key or the token can read and write." : "Everybody on this LAN can read and write.";
  show(mark, true);
  show(byId("leave"), secured);
}

function sentence(files) {
  if (files.lost) return `${count(files.lost, "file is", "files are")} on no machine that is up`;
  if (files.degraded) return `${count(files.degraded, "file waits", "files wait")} for more machines`;
  if (files.healing) return `Making copies of ${count(files.healing, "file", "files")}`;
  if (files.count === 0) return "Nothing stored yet";
  return files.count === 1 ? "The one file has all its copies" : `All ${number(files.count)} files have their copies`;
}

function more(files, nodes, up) {
  if (files.count === 0) return `Add a file: it is kept on as many of the ${count(nodes.length, "machine", "machines")} as you ask.`;
  const words = [`${size(files.bytes)} in ${count(files.count, "file", "files")}`, `${up} of ${count(nodes.length, "machine", "machines")} up`];
  if (files.lost && files.healing + files.degraded) words.push(`${number(files.healing + files.degraded)} short of copies`);
  const free = nodes.filter((node) => node.state === "up").reduce((sum, node) => sum + node.free_bytes, 0);
  words.push(`${size(free)} free`);
  return words.join(" · ");
}

function makeMachine() {
  const { root, parts } = copyOf("t-machine");
  root.parts = parts;
  return root;
}

function updateMachine(root, node) {
  const { name, state, roles, lamp, space, fill, used, disk } = root.parts;
  setText(name, visible(node.name));
  setAttribute(root, "title", [node.addr, node.version && `thorp ${node.version}`].filter(Boolean).map(visible).join(" · "));
  setText(state, nodeState(node.state));
  setAttribute(lamp, "data-tone", LAMPS[node.state] ?? "off");
  setAttribute(root, "data-state", node.state);
  const present = ORDER[node.state] === 0;
  reconcile(roles, present ? node.roles : [], (word) => word, (word) => Object.assign(document.createElement("span"), { className: `role ${word === "proxy" ? "leads" : ""}` }), (tag, word) => setText(tag, role(word)));
  const part = node.capacity_bytes ? Math.min(100, (100 * node.used_bytes) / node.capacity_bytes) : 0;
  show(space, node.capacity_bytes > 0);
  fill.style.setProperty("width", `${part.toFixed(1)}%`);
  setAttribute(space, "data-tone", part > 95 ? "bad" : part > 85 ? "warn" : "good");
  setAttribute(space, "aria-valuenow", part.toFixed(0));
  const words = node.capacity_bytes ? `${size(node.used_bytes)} of ${size(node.capacity_bytes)} used` : "keeps no files";
  setAttribute(space, "aria-label", `Space on ${visible(node.name)}`);
  setAttribute(space, "aria-valuetext", words);
  setText(used, words);
  const trouble = { full: "disk full", suspect: "disk trouble" }[node.disk] ?? "";
  setText(disk, trouble);
  show(disk, trouble !== "");
}
