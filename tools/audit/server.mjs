// Serves a folder on this machine, compressed as a static host does: the files that are in it at the
// start, and nothing else. What a request asks for is looked up among them, and is never part of a path.
import { readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, relative, sep } from "node:path";
import { gzipSync } from "node:zlib";

const TYPES = {
  ".css": "text/css", ".html": "text/html; charset=utf-8", ".ipynb": "application/json",
  ".js": "text/javascript", ".json": "application/json", ".png": "image/png",
  ".svg": "image/svg+xml", ".txt": "text/plain", ".woff2": "font/woff2", ".xml": "application/xml",
};
const UNCOMPRESSED = new Set([".png", ".woff2", ".whl", ".pdf"]);

/** The files of a folder and of those in it. Links are not followed: they may lead out. */
function* filesIn(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesIn(path);
    else if (entry.isFile()) yield path;
  }
}

/** The path of a request, decoded; undefined if it can't be. */
function pathOf(request) {
  try {
    return decodeURIComponent(new URL(request.url, "http://site").pathname);
  } catch {
    return undefined;
  }
}

/** Serve a folder; gives the site's address, and the server. */
export async function serve(folder) {
  const files = new Map(), bodies = new Map();
  for (const file of filesIn(folder)) files.set("/" + relative(folder, file).split(sep).join("/"), file);

  function bodyOf(file) {
    if (!bodies.has(file)) {
      const content = readFileSync(file);
      bodies.set(file, UNCOMPRESSED.has(extname(file)) ? content : gzipSync(content));
    }
    return bodies.get(file);
  }

  const server = createServer((request, response) => {
    const path = pathOf(request), file = files.get(path);
    if (!file) {
      response.writeHead(path === undefined ? 400 : 404).end();
      return;
    }
    const headers = { "content-type": TYPES[extname(file)] ?? "application/octet-stream" };
    if (!UNCOMPRESSED.has(extname(file))) headers["content-encoding"] = "gzip";
    const body = bodyOf(file);
    response.writeHead(200, { ...headers, "content-length": body.length, "cache-control": "max-age=600" });
    response.end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { address: `http://127.0.0.1:${server.address().port}/`, server };
}
