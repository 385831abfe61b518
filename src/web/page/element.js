// Elements of the page. What comes from the network goes in as text, here and nowhere as markup.

export const byId = (id) => document.getElementById(id);

/** A copy of a template: its element and those of its parts that have a name. */
export function copyOf(template) {
  const root = byId(template).content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const part of [root, ...root.querySelectorAll("[data-part]")]) {
    if (part.dataset.part) parts[part.dataset.part] = part;
  }
  return { root, parts };
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export function show(node, on) {
  if (node.hidden === on) node.hidden = !on;
}

/**
 * Makes the children of `parent` those for `items`, in their order. An element stays the same as
 * long as its key does, so that focus, selection and animation survive what others change.
 */
export function reconcile(parent, items, keyOf, make, update) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const old = new Map();
  for (const child of parent.children) old.set(child.key, child);
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = old.get(key);
    if (child) old.delete(key);
    else {
      child = make(item);
      child.key = key;
    }
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
    update(child, item);
  }
  for (const child of old.values()) child.remove();
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

/** Says `text` to those who hear the page. */
export function say(text) {
  setText(byId("said"), text);
}
