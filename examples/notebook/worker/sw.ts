/** Serves the page when there is no network. What it keeps is one version, named by its content. */

declare const VERSION: string;

const scope = self as unknown as ServiceWorkerGlobalScope;const CACHE = `notebook-${VERSION}`;
const FILES = ["/", "/app.js", "/app.css", "/icon.svg"];

scope.addEventListener("install", (event) => {
  const keep = async (): Promise<void> => {
    const cache = await caches.open(CACHE);
    await cache.addAll(FILES.map((path) => new Request(path, { cache: "reload" })));
    await scope.skipWaiting(); // a page never loads a second script, so it cannot mix versions
  };
  event.waitUntil(keep());
});

scope.addEventListener("activate", (event) => {
  const tidy = async (): Promise<void> => {
    for (const name of await caches.keys()) {
      if (name.startsWith("notebook-") && name !== CACHE) await caches.delete(name);
    }
    await scope.clients.claim();
  };
  event.waitUntil(tidy());
});

scope.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const { origin, pathname } = new URL(url);
  if (method !== "GET" || origin !== scope.location.origin || !FILES.includes(pathname)) return;
  const answer = async (): Promise<Response> => {
    const kept = await caches.match(pathname, { cacheName: CACHE });
    return kept ?? fetch(event.request);
  };
  event.respondWith(answer());
});
