/**
 * Serves the page when there is no network. What it keeps is one version, named by its content: if one
 * of the files is of another (a site that is just being changed, or somebody else's), it keeps none.
 */

declare const VERSION: string;
/** SHA-256 of each file in hexadecimal, by its path. */
declare const DIGESTS: Readonly<Record<string, string>>;

const scope = self as unknown as ServiceWorkerGlobalScope;
const CACHE = `notebook-${VERSION}`;

scope.addEventListener("install", (event) => {
  const keep = async (): Promise<void> => {
    const answers = await Promise.all(Object.keys(DIGESTS).map(ask));
    const cache = await caches.open(CACHE);
    for (const [path, answer] of answers) await cache.put(path, answer);
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
  if (method !== "GET" || origin !== scope.location.origin || !(pathname in DIGESTS)) return;
  const answer = async (): Promise<Response> => {
    const kept = await caches.match(pathname, { cacheName: CACHE });
    return kept ?? fetch(event.request);
  };
  event.respondWith(answer());
});

/** A file as the site has it now. Throws if it is not the one that this worker was built with. */
async function ask(path: string): Promise<[path: string, answer: Response]> {
  const answer = await fetch(path, { cache: "reload" });
  let content = await answer.clone().text();
  if (path === "/") content = content.replace(/nonce="[^"]*"/, 'nonce="{nonce}"'); // one for each answer
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(content));
  const hex = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (!answer.ok || answer.redirected || hex !== DIGESTS[path]) throw new Error(`${path} is of another version`);
  return [path, answer];
}
