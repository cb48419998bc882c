"use strict";
/* Where the page's bytes come from: from beside it, kept by a service worker for when there is no network. */

async function load() {
  if ("serviceWorker" in navigator) navigator.serviceWorker.register("worker.js").catch(() => {});
  const part = async (name) => {
    const response = await fetch(name);
    if (!response.ok) throw new Error(`${name} could not be read (${response.status})`);
    return new Uint8Array(await response.arrayBuffer());
  };
  return Promise.all([part("kernel.wasm"), part("model.kernel")]);
}
