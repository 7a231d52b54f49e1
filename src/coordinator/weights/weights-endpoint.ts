/**
 * The grid's source of weights, for nodes with the bearer of their running session:
 *
 * | `GET /grid/v1/weights/{sha256}` + | what                         | for                                                     |
 * | --------------------------------- | ---------------------------- | ------------------------------------------------------- |
 * | `/manifest`                       | signed manifest, JSON        | nodes that were told to have these weights               |
 * | `/digests`                        | 32 bytes for each chunk      | the same                                                |
 * | `/files/{index}`                  | a file, or one byte range    | the same, and of those that have peers: what they claimed |
 *
 * Who is not told to have the weights is refused `not-ordered`, however he came by the digest; a range that was not claimed is refused
 * `not-claimed`. A download ends with the session that it was begun in, and when nobody reads it: the next one fetches the rest.
 */
import { describeFault, FallowError } from "../../domain/fault.ts";
import { ID_PATTERNS, type NodeId, type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import type { ModelFile, ModelFiles } from "../../ports/model-files.ts";
import { WEIGHTS_PATH } from "../../wire/agent-link.ts";
import { type ByteRange, readRange } from "./byte-range.ts";
import { SourceGuard } from "./source-guard.ts";
import type { Swarm } from "./swarm.ts";
import type { WeightsTracker } from "./tracker.ts";
import { chunksOfRange, type WeightsContent, type WeightsContents } from "./weights-content.ts";

/** One read: large enough for a disk's full speed, small enough that 64 downloads hold 64 MiB. */
const READ_BYTES = 1024 * 1024;
const BUSY_RETRY_SECONDS = 5;
/** A reader that takes less than `READ_BYTES` in so long gives its place to others: on 100 kbit/s they come in time. */
export const UNREAD_MS_MAX = 120_000;
const SESSION_OVER = "the node's session has ended, and its download with it";

export interface WeightsEndpointPorts {
  readonly sessions: { nodeOfBearer(bearer: string): NodeId | null };
  readonly contents: WeightsContents;
  readonly tracker: Pick<WeightsTracker, "open" | "isOrdered" | "isPeer" | "rightsOf">;
  readonly modelFiles: Pick<ModelFiles, "open">;
  readonly clock: Clock;
  readonly log: Log;
}

interface Downloader {
  readonly nodeId: NodeId;
  readonly bearer: string;
}

interface Place {
  readonly weightsSha256: Sha256Hex;
  /** `manifest`, `digests`, or the index of a file. */
  readonly what: "manifest" | "digests" | number;
}

interface Described {
  readonly content: WeightsContent;
  readonly swarm: Swarm;
}

const PLACE = /^([0-9a-f]{64})\/(?:(manifest|digests)|files\/(\d{1,3}))$/;

export class WeightsEndpoint {
  readonly #ports: WeightsEndpointPorts;
  readonly #guard = new SourceGuard();
  readonly #refused = new Map<string, number>();

  constructor(ports: WeightsEndpointPorts) {
    this.#ports = ports;
  }

  /** Refusals by code, and downloads that run. */
  stats(): { readonly refused: Readonly<Record<string, number>>; readonly running: number } {
    return { refused: Object.fromEntries(this.#refused), running: this.#guard.running };
  }

  /** The answer when the path is one of weights, else null. Never rejects. */
  async handle(request: Request): Promise<Response | null> {
    const { pathname } = new URL(request.url);
    if (!pathname.startsWith(WEIGHTS_PATH)) return null;
    if (request.method !== "GET" && request.method !== "HEAD") {
      return this.#refuse(405, "method-not-allowed", "weights are read with GET", { allow: "GET, HEAD" });
    }
    const [, bearer] = /^Bearer ([\x21-\x7e]{1,128})$/i.exec(request.headers.get("authorization") ?? "") ?? [];
    const nodeId = bearer === undefined ? null : this.#ports.sessions.nodeOfBearer(bearer);
    if (bearer === undefined || nodeId === null) {
      const why = "weights are for nodes of this grid, with the bearer of their running session";
      return this.#refuse(401, "invalid-key", why);
    }
    const path = pathname.slice(WEIGHTS_PATH.length);
    try {
      return await this.#serve(request, { nodeId, bearer }, path);
    } catch (thrown) {
      this.#ports.log.error(
        { nodeId, path: path.slice(0, 128), cause: describeFault(thrown) },
        "weights cannot be read",
      );
      return this.#refuse(500, "internal", "the coordinator cannot read the model's files");
    }
  }

  async #serve(request: Request, by: Downloader, path: string): Promise<Response> {
    const place = placeOf(path);
    if (place === null) {
      const why = `below ${WEIGHTS_PATH} there is {sha256}/manifest, {sha256}/digests and {sha256}/files/{index}`;
      return this.#refuse(404, "not-found", why);
    }
    const { tracker, clock } = this.#ports;
    await tracker.rightsOf(by.nodeId);
    // Who has no right yet may get it by the manifest that is read here (`order-book.ts`), and costs few readings.
    const isOrdered = () => tracker.isOrdered(by.nodeId, place.weightsSha256);
    if (!isOrdered() && !this.#guard.mayDescribe(by.nodeId, clock.monoMs())) {
      return this.#refuse(429, "rate-limited", "these weights are not this node's to have", { "retry-after": "60" });
    }
    const described = await this.#described(place.weightsSha256);
    // Before it shows whether the grid has such weights.
    if (!isOrdered()) {
      return this.#refuse(
        403,
        "not-ordered",
        "the coordinator did not tell this node to load or to stage these weights",
      );
    }
    if (described === null) return this.#refuse(404, "not-found", "this grid has no manifest of these weights");
    if (typeof place.what === "number") return await this.#file(request, by, described, place.what);
    if (!this.#guard.mayDescribe(by.nodeId, clock.monoMs())) {
      return this.#refuse(429, "rate-limited", "a node needs a manifest and its digests once", { "retry-after": "60" });
    }
    const bytes = place.what === "manifest" ? described.content.signedManifest : described.content.digests;
    const headers = {
      "content-type": place.what === "manifest" ? "application/json" : "application/octet-stream",
      "content-length": String(bytes.length),
      "cache-control": "no-store",
    };
    return new Response(request.method === "HEAD" ? null : whole(bytes), { headers });
  }

  async #described(weightsSha256: Sha256Hex): Promise<Described | null> {
    const content = await this.#ports.contents.content(weightsSha256);
    const swarm = content === null ? null : await this.#ports.tracker.open(weightsSha256);
    return content === null || swarm === null ? null : { content, swarm };
  }

  async #file(request: Request, by: Downloader, { content, swarm }: Described, index: number): Promise<Response> {
    const file = content.manifest.files[index];
    const path = content.filePaths[index];
    if (file === undefined || path === undefined) {
      return this.#refuse(404, "not-found", `the model has ${content.manifest.files.length} files, counted from 0`);
    }
    const { fileBytes } = file;
    const range = readRange(request.headers.get("range"), fileBytes);
    if (range === "unsatisfiable") {
      const headers = { "content-range": `bytes */${fileBytes}` };
      return this.#refuse(416, "invalid-request", `the file has ${fileBytes} bytes`, headers);
    }
    const bytes = range ?? { from: 0, to: fileBytes };
    const headers = {
      "content-type": "application/octet-stream",
      "content-length": String(bytes.to - bytes.from),
      "accept-ranges": "bytes",
      "cache-control": "no-store",
      etag: `"${file.sha256}"`,
      ...(range === null ? {} : { "content-range": `bytes ${bytes.from}-${bytes.to - 1}/${fileBytes}` }),
    };
    const status = range === null ? 200 : 206;
    if (request.method === "HEAD") return new Response(null, { status, headers });
    const chunks = chunksOfRange(content.manifest, { file: index, ...bytes });
    if (this.#ports.tracker.isPeer(by.nodeId) && !swarm.mayTake(by.nodeId, chunks)) {
      const why = `chunks ${chunks[0]} to ${chunks[0] + chunks[1] - 1} are not this node's to take from the source: claim them first`;
      return this.#refuse(409, "not-claimed", why);
    }
    const leave = this.#guard.enter(by.nodeId, swarm.wants.get(by.nodeId)?.isIdle ?? false);
    if (leave === null) {
      const headers = { "retry-after": String(BUSY_RETRY_SECONDS) };
      return this.#refuse(503, "no-capacity", "too many downloads are running", headers);
    }
    // The place is taken before the file is opened: requests that come together must not all find it free.
    const opened = await this.#opened(path, leave);
    if (opened.fileBytes !== fileBytes) {
      leave();
      await opened.close();
      const why = `the model's file has ${opened.fileBytes} bytes and was registered with ${fileBytes}`;
      return this.#refuse(500, "internal", why);
    }
    swarm.account(by.nodeId).isAlone = !this.#ports.tracker.isPeer(by.nodeId);
    return new Response(this.#stream(opened, bytes, { by, swarm, leave }), { status, headers });
  }

  async #opened(path: string, leave: () => void): Promise<ModelFile> {
    try {
      return await this.#ports.modelFiles.open(path);
    } catch (thrown) {
      leave();
      throw thrown;
    }
  }

  /** Gives its place back when it ends. Looks at each part whether the session it was begun in goes on. */
  #stream(
    file: ModelFile,
    range: ByteRange,
    { by, swarm, leave }: { by: Downloader; swarm: Swarm; leave: () => void },
  ): ReadableStream<Uint8Array> {
    let isOpen = true;
    let unread: Timer | null = null;
    const end = async () => {
      unread?.cancel();
      if (!isOpen) return;
      isOpen = false;
      leave();
      await file.close();
    };
    let at = range.from;
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          unread?.cancel();
          try {
            // Who is not of the grid any more gets no more of it.
            if (this.#ports.sessions.nodeOfBearer(by.bearer) !== by.nodeId)
              throw new FallowError("session-over", SESSION_OVER);
            const bytes = await file.read(at, Math.min(READ_BYTES, range.to - at));
            at += bytes.length;
            swarm.countSent(by.nodeId, bytes.length);
            controller.enqueue(bytes);
            if (at < range.to) {
              unread = this.#ports.clock.setTimer(UNREAD_MS_MAX, () => {
                controller.error(new FallowError("weights-unread", `nothing was read for ${UNREAD_MS_MAX} ms`));
                void end();
              });
              return;
            }
            await end();
            controller.close();
          } catch (thrown) {
            await end();
            controller.error(thrown);
          }
        },
        cancel: end,
      },
      { highWaterMark: 0 },
    );
  }

  #refuse(status: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}): Response {
    this.#refused.set(code, (this.#refused.get(code) ?? 0) + 1);
    const error = { message, type: "invalid_request_error", param: null, code };
    return Response.json({ error }, { status, headers });
  }
}

function placeOf(path: string): Place | null {
  const [, digest, name, index] = PLACE.exec(path) ?? [];
  if (digest === undefined || !ID_PATTERNS.sha256.test(digest)) return null;
  const weightsSha256 = sha256Hex(digest);
  if (name === "manifest" || name === "digests") return { weightsSha256, what: name };
  return { weightsSha256, what: Number(index) };
}

/** In one part, without a copy: the bytes are kept for all who ask. */
function whole(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>({
    start: (controller) => {
      controller.enqueue(bytes);
      controller.close();
    },
  });
}
