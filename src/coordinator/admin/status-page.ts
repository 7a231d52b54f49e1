/**
 * The status page at `/`: a few static files, read once by the composition root and served from memory. The page asks the
 * operator's API with a key that it gets in the address's fragment, which a browser never sends to a server. Its policy lets
 * in nothing from elsewhere and no inline script, so a node's name can never become code.
 */
export interface StatusPageFile {
  readonly contentType: string;
  readonly body: string;
}

/** By path: `/` and the files that it names. */
export type StatusPageFiles = ReadonlyMap<string, StatusPageFile>;

const HEADERS = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "cache-control": "no-cache",
} as const;

/** The answer when the path is one of the page's, else null. */
export function statusPageResponse(files: StatusPageFiles, request: Request): Response | null {
  if (request.method !== "GET" && request.method !== "HEAD") return null;
  const file = files.get(new URL(request.url).pathname);
  if (file === undefined) return null;
  const headers = { ...HEADERS, "content-type": file.contentType };
  return new Response(request.method === "HEAD" ? null : file.body, { headers });
}
