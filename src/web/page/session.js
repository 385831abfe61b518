// The token of a closed LAN: taken out of the address or asked for, given to the node for a cookie, kept nowhere.

import { ask, hasEntered, tokenWanted } from "/api.js";
import { byId, show } from "/element.js";

const dialog = byId("token-dialog");

/** Calls `onOpened` whenever the node has let us in. */
export function startSession(onOpened) {
  const enter = async (token) => {
    await ask("POST", "/api/session", { headers: { Authorization: `Bearer ${token}` } });
    hasEntered();
    dialog.close();
    show(byId("banner-token"), false);
    onOpened();
  };

  byId("token-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    show(byId("token-error"), false);
    try {
      await enter(byId("token").value.trim());
      byId("token").value = "";
    } catch (refusal) {
      byId("token-error").textContent = refusal.status === 401 ? "That is not the token of this LAN." : refusal.message;
      show(byId("token-error"), true);
      byId("token").select();
    }
  });
  byId("token-cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => byId("enter-token").focus());
  byId("enter-token").addEventListener("click", () => dialog.showModal());
  byId("leave").addEventListener("click", async () => {
    await ask("DELETE", "/api/session").catch(() => null);
    location.reload();
  });
  tokenWanted.addEventListener("wanted", () => {
    if (!byId("banner-token").hidden) return;
    show(byId("banner-token"), true);
    if (!dialog.open) dialog.showModal();
  });

  const fromAddress = async () => {
    const found = /^#token=(.+)$/.exec(location.hash);
    if (!found) return;
    // Out of the address at once: it would stay in the history and in pictures of the screen.
    history.replaceState(null, "", location.pathname + location.search);
    try {
      await enter(decodeURIComponent(found[1]));
    } catch {
      // A wrong one shows the form by its 401; without an answer the banner says so.
    }
  };
  window.addEventListener("hashchange", fromAddress);
  return fromAddress();
}
