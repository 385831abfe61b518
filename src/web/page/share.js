// A link to one file, for a day.

import { ask } from "/api.js";
import { byId, setText } from "/element.js";
import { failed } from "/notices.js";
import { fullTime, inPath, visible } from "/words.js";

export async function share(name) {
  try {
    const { url, expires } = await ask("POST", `/api/share/${inPath(name)}?expires=24h`);
    setText(byId("share-name"), visible(name));
    byId("share-url").value = url;
    setText(byId("share-until"), `Until ${fullTime(expires)}.`);
    setText(byId("share-copy"), "Copy the link");
    byId("share-dialog").showModal();
    byId("share-url").select();
  } catch (refusal) {
    failed(`No link to ${visible(name)}`, refusal);
  }
}

byId("share-copy").addEventListener("click", async () => {
  byId("share-url").select();
  try {
    // There is a clipboard on https and loopback alone; elsewhere the old way.
    if (navigator.clipboard) await navigator.clipboard.writeText(byId("share-url").value);
    else if (!document.execCommand("copy")) return;
    setText(byId("share-copy"), "Copied");
  } catch {
    setText(byId("share-copy"), "Press Ctrl+C");
  }
});
