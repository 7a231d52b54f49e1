/**
 * A hub of models on this machine that speaks the Hugging Face protocol: the facts of a repository, its files by pages, and `resolve`, which
 * leads to a second host name and port, as the real one leads to its content network. What the content host does with the next requests for
 * bytes can be planned, and every request is kept.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

export interface HubRequest {
  readonly at: "hub" | "content";
  readonly path: string;
  readonly range: string | null;
  readonly authorization: string | null;
}

/** What happens to one request for bytes; without a plan it is served. */
export type BytesPlan =
  | { readonly kind: "cut"; readonly afterBytes: number }
  /** Sends so much, then nothing more until `release`. */
  | { readonly kind: "hold"; readonly afterBytes: number }
  | {
      readonly kind: "status";
      readonly status: number;
      readonly headers?: Record<string, string>;
      readonly body?: string;
    }
  | { readonly kind: "ignore-range" }
  | { readonly kind: "page"; readonly type: string }
  | { readonly kind: "redirect"; readonly to: string }
  | { readonly kind: "endless" }
  | { readonly kind: "drip" }
  | { readonly kind: "other-size"; readonly fileBytes: number };

export interface HubRepository {
  readonly files: Readonly<Record<string, Uint8Array>>;
  readonly licence?: string;
  readonly isPrivate?: boolean;
  readonly isGated?: boolean;
}

export interface HubServer extends AsyncDisposable {
  readonly url: string;
  /** Of the content host, `localhost:port`. */
  readonly contentHost: string;
  readonly contentUrl: string;
  readonly commit: string;
  readonly requests: HubRequest[];
  /** Plans for the next requests for bytes, in order. */
  readonly plans: BytesPlan[];
  /** Bytes of files that left the content host. */
  bytesSent(): number;
  put(repo: string, repository: HubRepository): void;
  /** The entity tag of a file at its plain address on the content host; other bytes there have another one. */
  putPlain(path: string, bytes: Uint8Array): void;
  /** Lets requests that were held go on. */
  release(): void;
  /** Who may read private and gated repositories. */
  readonly token: string;
}

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const TOKEN = "hf_testtoken";
const PAGE_ENTRIES = 2;
const DRIP_MS = 5;

interface State {
  readonly repositories: Map<string, HubRepository>;
  readonly plain: Map<string, Uint8Array>;
  readonly requests: HubRequest[];
  readonly plans: BytesPlan[];
  readonly held: Set<() => void>;
  sent: number;
  contentUrl: string;
}

export async function startHubServer(): Promise<HubServer> {
  const state: State = {
    repositories: new Map(),
    plain: new Map(),
    requests: [],
    plans: [],
    held: new Set(),
    sent: 0,
    contentUrl: "",
  };
  const content = createServer((request, response) => serveContent(state, request, response));
  const contentPort = await listen(content);
  state.contentUrl = `http://localhost:${contentPort}`;
  const hub = createServer((request, response) => serveHub(state, request, response));
  const hubPort = await listen(hub);
  const release = () => {
    for (const go of state.held) go();
    state.held.clear();
  };
  return {
    url: `http://127.0.0.1:${hubPort}`,
    contentHost: `localhost:${contentPort}`,
    contentUrl: state.contentUrl,
    commit: COMMIT,
    token: TOKEN,
    requests: state.requests,
    plans: state.plans,
    bytesSent: () => state.sent,
    put: (repo, repository) => state.repositories.set(repo, repository),
    putPlain: (path, bytes) => state.plain.set(path, bytes),
    release,
    [Symbol.asyncDispose]: async () => {
      release();
      for (const server of [hub, content]) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  };
}

function listen(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      if (address === null || typeof address === "string") reject(new Error("a TCP server has a port"));
      else resolve(address.port);
    });
  });
}

function note(state: State, at: HubRequest["at"], request: IncomingMessage): string {
  const path = request.url ?? "/";
  const { range = null, authorization = null } = request.headers;
  state.requests.push({ at, path, range, authorization });
  return path;
}

function serveHub(state: State, request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(note(state, "hub", request), "http://hub");
  const path = decodeURIComponent(url.pathname);
  const [, api, repo = "", rest = ""] = /^\/(api\/models\/)?([^/]+\/[^/]+)\/(.+)$/.exec(path) ?? [];
  const repository = state.repositories.get(repo);
  const isAllowed = request.headers.authorization === `Bearer ${TOKEN}`;
  if (repository === undefined || (repository.isPrivate === true && !isAllowed)) {
    refuse(response, 401, "RepoNotFound", "Repository not found");
    return;
  }
  if (api !== undefined) {
    serveApi(repository, { rest, url }, response);
    return;
  }
  if (repository.isGated === true && !isAllowed) {
    refuse(response, 403, "GatedRepo", `Access to model ${repo} is restricted.`);
    return;
  }
  const file = repository.files[rest.replace(`resolve/${COMMIT}/`, "")];
  if (file === undefined) {
    refuse(response, 404, "EntryNotFound", "Entry not found");
    return;
  }
  if (state.plans[0]?.kind === "redirect") {
    const plan = state.plans.shift();
    response.writeHead(302, { location: plan?.kind === "redirect" ? plan.to : "" }).end();
    return;
  }
  response
    .writeHead(302, {
      location: `${state.contentUrl}/repos/${repo}/${rest.split("/").slice(2).join("/")}?signature=secret`,
      "x-repo-commit": COMMIT,
      "x-linked-size": String(file.length),
      "x-linked-etag": `"${digestOf(file)}"`,
    })
    .end();
}

function serveApi(
  repository: HubRepository,
  { rest, url }: { rest: string; url: URL },
  response: ServerResponse,
): void {
  if (/^revision\/(main|v1\.0|[0-9a-f]{40})$/.test(rest)) {
    const { licence, isPrivate = false, isGated } = repository;
    const gated = isGated === true ? "manual" : false;
    json(response, { sha: COMMIT, private: isPrivate, gated, cardData: { license: licence ?? null } });
    return;
  }
  if (rest.startsWith("revision/")) {
    refuse(response, 404, "RevisionNotFound", "Invalid rev id");
    return;
  }
  const from = Number(url.searchParams.get("cursor") ?? 0);
  const entries = Object.entries(repository.files).map(([path, bytes]) => ({
    type: "file",
    path,
    oid: createHash("sha1").update(bytes).digest("hex"),
    size: bytes.length,
    lfs: { oid: digestOf(bytes), size: bytes.length, pointerSize: 134 },
  }));
  const page = entries.slice(from, from + PAGE_ENTRIES);
  // As mirrors do: the next page's address is the real hub's.
  const next = `https://huggingface.co${url.pathname}?recursive=true&cursor=${from + PAGE_ENTRIES}`;
  json(response, page, from + PAGE_ENTRIES < entries.length ? { link: `<${next}>; rel="next"` } : {});
}

function json(response: ServerResponse, value: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(200, { "content-type": "application/json; charset=utf-8", ...headers }).end(JSON.stringify(value));
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  response
    .writeHead(status, { "x-error-code": code, "x-error-message": message, "content-type": "application/json" })
    .end(JSON.stringify({ error: message }));
}

function serveContent(state: State, request: IncomingMessage, response: ServerResponse): void {
  const path = decodeURIComponent(new URL(note(state, "content", request), "http://content").pathname);
  const [, repo = "", file = ""] = /^\/repos\/([^/]+\/[^/]+)\/(.+)$/.exec(path) ?? [];
  const bytes = state.plain.get(path) ?? state.repositories.get(repo)?.files[file];
  if (bytes === undefined) {
    response.writeHead(404).end("not here");
    return;
  }
  const plan = state.plans.shift() ?? null;
  const etag = `"${digestOf(bytes).slice(0, 32)}"`;
  const isSame = request.headers["if-range"] === undefined || request.headers["if-range"] === etag;
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
  const hasRange = first !== undefined && isSame && plan?.kind !== "ignore-range";
  const from = hasRange ? Number(first) : 0;
  const to = hasRange && last !== undefined && last !== "" ? Math.min(Number(last) + 1, bytes.length) : bytes.length;
  if (plan?.kind === "status") {
    response.writeHead(plan.status, plan.headers).end(plan.body ?? "");
    return;
  }
  if (plan?.kind === "page") {
    response.writeHead(200, { "content-type": plan.type }).end("<!DOCTYPE html><title>Log in</title>");
    return;
  }
  if (plan?.kind === "redirect") {
    response.writeHead(302, { location: plan.to }).end();
    return;
  }
  if (plan?.kind === "endless") {
    serveEndless(state, response);
    return;
  }
  const total = plan?.kind === "other-size" ? plan.fileBytes : bytes.length;
  response.writeHead(hasRange ? 206 : 200, {
    "content-type": "application/octet-stream",
    "content-length": (plan?.kind === "other-size" ? plan.fileBytes : to) - from,
    etag,
    ...(hasRange ? { "content-range": `bytes ${from}-${to - 1}/${total}` } : {}),
  });
  sendBytes(state, response, bytes.subarray(from, to), plan);
}

function sendBytes(state: State, response: ServerResponse, bytes: Uint8Array, plan: BytesPlan | null): void {
  if (plan?.kind === "cut") {
    state.sent += Math.min(plan.afterBytes, bytes.length);
    response.write(bytes.subarray(0, plan.afterBytes), () => response.socket?.destroySoon());
    return;
  }
  if (plan?.kind === "hold") {
    state.sent += Math.min(plan.afterBytes, bytes.length);
    response.write(bytes.subarray(0, plan.afterBytes));
    state.held.add(() => {
      state.sent += bytes.length - plan.afterBytes;
      response.end(bytes.subarray(plan.afterBytes));
    });
    return;
  }
  if (plan?.kind === "drip") {
    let at = 0;
    const timer = setInterval(() => response.write(bytes.subarray(at, ++at)), DRIP_MS);
    response.once("close", () => clearInterval(timer));
    return;
  }
  state.sent += bytes.length;
  response.end(bytes);
}

/** No length, no end. */
function serveEndless(state: State, response: ServerResponse): void {
  response.writeHead(200, { "content-type": "application/octet-stream" });
  const block = Buffer.alloc(65_536, "GGUF");
  const go = () => {
    state.sent += block.length;
    if (!response.destroyed) response.write(block, go);
  };
  go();
}

function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
