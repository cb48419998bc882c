"use strict";
/* Where the page's bytes come from: from the page itself, as base64 of deflated bytes. */

async function load() {
  const part = (id) => inflated(bytesOfBase64(document.getElementById(id).textContent));
  return Promise.all([part("wasm"), part("model")]);
}
