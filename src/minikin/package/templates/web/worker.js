"use strict";
/* Keeps every file of this folder at the first visit, so that the page works without a network afterwards. The name of
 * the store holds a hash of the files: a new export is a new store, and the old one goes. */

const PREFIX = `minikin ${self.registration.scope} `;
const STORE = PREFIX + "{{ version }}";
const FILES = {{ files }};

self.addEventListener("install", (event) => {
  const kept = caches.open(STORE).then((store) => store.addAll(FILES.map((name) => new Request(name, { cache: "reload" }))));
  event.waitUntil(kept.then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const old = (name) => name.startsWith(PREFIX) && name !== STORE;
  const swept = caches.keys().then((names) => Promise.all(names.filter(old).map((name) => caches.delete(name))));
  event.waitUntil(swept.then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  const kept = caches.open(STORE).then((store) => store.match(event.request, { ignoreSearch: true }));
  event.respondWith(kept.then((found) => found ?? fetch(event.request)));
});
