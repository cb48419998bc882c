"use strict";
/* Where the page's bytes come from: from beside it, kept by a service worker for when there is no network. */

const ON_DISK =
  "opened from a disk, it may not read the model that lies beside it. Serve this folder (python -m http.server does), " +
  "or export the kin with --to html, which gives a page that opens from a disk";

async function load() {
  if ("serviceWorker" in navigator) navigator.serviceWorker.register("worker.js").catch(() => {});
  const part = async (name) => {
    const response = await fetch(name).catch(() => {
      throw new Error(location.protocol === "file:" ? ON_DISK : `${name} could not be fetched; is there a network?`);
    });
    if (!response.ok) throw new Error(`${name} could not be read (${response.status})`);
    return new Uint8Array(await response.arrayBuffer());
  };
  return Promise.all([part("kernel.wasm"), part("model.kernel")]);
}
