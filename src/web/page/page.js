// The page: lets the session in, opens the one stream of events, and hands each to the part that shows it.

import { addActivity, beginActivity, renewTimes, showTransfers } from "/activity.js";
import { ask } from "/api.js";
import { renewChannels, restChannels, startChannels } from "/channels.js";
import { byId, setAttribute, setText, show } from "/element.js";
import { Stream } from "/events.js";
import { filesChanged, listSoon, startFiles } from "/files.js";
import { showSecured, showStatus } from "/machines.js";
import { startSession } from "/session.js";
import { hurryUploads, startUploads } from "/uploads.js";
import { visible } from "/words.js";

/** A stream that breaks and is back within this shows no banner. */
const BANNER_AFTER = 1_000;
/** After this long in the background the connections are given back. */
const REST_AFTER = 60_000;

let isGone = false;
let bannerTimer = 0;
let countTimer = 0;
let restTimer = 0;

const stream = new Stream(
  "/api/events",
  {
    hello: ({ node, version, secured }) => {
      setText(byId("via"), `by ${visible(node.name)}`);
      byId("via").title = `This page is served by ${visible(node.name)}, thorp ${visible(version)}`;
      show(byId("via"), true);
      showSecured(secured);
    },
    status: showStatus,
    files: filesChanged,
    transfers: showTransfers,
    activity: addActivity,
    proxy: ({ state }) => {
      show(byId("banner-proxy"), state !== "ok" && !isGone);
      if (state === "ok") {
        hurryUploads();
        listSoon();
      }
    },
  },
  connectionIs,
);

function connectionIs(state, nextTry) {
  clearInterval(countTimer);
  if (state === "live") {
    document.body.classList.remove("locked");
    clearTimeout(bannerTimer);
    bannerTimer = 0;
    isGone = false;
    show(byId("banner-gone"), false);
    show(byId("banner-proxy"), false);
    beginActivity();
    listSoon(0);
    renewChannels();
    hurryUploads();
  } else if (state === "gone") {
    bannerTimer ||= setTimeout(() => {
      isGone = true;
      show(byId("banner-gone"), true);
      show(byId("banner-proxy"), false);
      drawConnection("gone");
    }, BANNER_AFTER);
    const tell = () => setText(byId("banner-gone-more"), `Next try in ${Math.max(0, Math.ceil((nextTry - Date.now()) / 1_000))} s.`);
    tell();
    countTimer = setInterval(tell, 1_000);
    // A stream does not say why it failed; this does when it is for want of a token.
    ask("GET", "/api/status").then(showStatus, (refusal) => {
      if (refusal.status === 401) showClosed();
    });
  } else setText(byId("banner-gone-more"), "Trying now.");
  drawConnection(state === "live" ? "live" : isGone ? "gone" : "connecting");
}

/** The node is there, and wants a token: that is not the same as gone. */
function showClosed() {
  clearTimeout(bannerTimer);
  clearInterval(countTimer);
  bannerTimer = 0;
  isGone = false;
  stream.close();
  show(byId("banner-gone"), false);
  showSecured(true);
  show(byId("leave"), false);
  document.body.classList.add("locked");
  setText(byId("summary"), "This LAN is closed");
  drawConnection("closed");
}

function drawConnection(state) {
  setAttribute(byId("connection"), "data-state", state);
  setText(byId("connection"), { live: "live", gone: "gone", closed: "token needed" }[state] ?? "connecting");
  document.body.classList.toggle("stale", state === "gone");
}

function startTabs() {
  const tabs = document.querySelectorAll(".tabs button");
  for (const tab of tabs) {
    tab.addEventListener("click", () => {
      document.body.dataset.view = tab.dataset.view;
      for (const other of tabs) setAttribute(other, "aria-current", other === tab ? "true" : null);
      window.scrollTo(0, 0);
    });
  }
}

function watchVisibility() {
  document.addEventListener("visibilitychange", () => {
    clearTimeout(restTimer);
    if (document.hidden) {
      restTimer = setTimeout(() => {
        stream.close();
        restChannels();
      }, REST_AFTER);
    } else if (stream.isClosed && byId("banner-token").hidden) stream.open();
    else stream.check(0);
  });
  window.addEventListener("online", () => stream.open());
  byId("try-now").addEventListener("click", () => stream.open());
}

startFiles();
startUploads();
startChannels();
startTabs();
watchVisibility();
setInterval(renewTimes, 20_000);
startSession(() => stream.open()).finally(() => {
  if (stream.isClosed && byId("banner-token").hidden) stream.open();
});
