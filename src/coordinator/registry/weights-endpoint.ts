/**
 * `GET /grid/v1/weights/{sha256}`: a model's file for nodes of this grid. The bearer is that of the node's running session,
 * so a node that was removed, or a stranger, gets nothing. One range (RFC 9110 section 14) is honoured, so that a download
 * goes on where it was cut; a request for several ranges gets the whole file, as the RFC allows.
 */
import { describeFault, FallowError } from "../../domain/fault.ts";
import { ID_PATTERNS, type NodeId, type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { ModelFile, ModelFiles } from "../../ports/model-files.ts";
import type { ModelRecord } from "../../ports/store.ts";
import { WEIGHTS_PATH } from "../../wire/agent-link.ts";

/** One read: large enough for a disk's full speed, small enough that 64 downloads hold 64 MiB. */
const READ_BYTES = 1024 * 1024;
/** Downloads at once, all nodes together; each holds a file handle and a buffer. */
export const DOWNLOADS_MAX = 64;
/** Of these, by one node: it loads a few replicas at a time. */
export const DOWNLOADS_PER_NODE_MAX = 4;
const BUSY_RETRY_SECONDS = 5;

export interface WeightsEndpointPorts {
  readonly sessions: { nodeOfBearer(bearer: string): NodeId | null };
  readonly models: { byWeights(sha256: Sha256Hex): ModelRecord | null };
  readonly modelFiles: ModelFiles;
  readonly log: Log;
}

const SESSION_OVER = "the node's session has ended, and its download with it";

interface Downloader {
  readonly nodeId: NodeId;
  readonly bearer: string;
}

interface ByteRange {
  readonly from: number;
  /** Exclusive. */
  readonly to: number;
}

export class WeightsEndpoint {
  readonly #ports: WeightsEndpointPorts;
  readonly #running = new Map<NodeId, number>();
  #runningCount = 0;

  constructor(ports: WeightsEndpointPorts) {
    this.#ports = ports;
  }

  /** The answer when the path is one of weights, else null. Never rejects. */
  async handle(request: Request): Promise<Response | null> {
    const { pathname } = new URL(request.url);
    if (!pathname.startsWith(WEIGHTS_PATH)) return null;
    if (request.method !== "GET" && request.method !== "HEAD") {
      return refused(405, "method-not-allowed", "weights are read with GET", { allow: "GET, HEAD" });
    }
    const [, bearer] = /^Bearer ([\x21-\x7e]{1,128})$/i.exec(request.headers.get("authorization") ?? "") ?? [];
    const nodeId = bearer === undefined ? null : this.#ports.sessions.nodeOfBearer(bearer);
    if (bearer === undefined || nodeId === null) {
      return refused(
        401,
        "invalid-key",
        "weights are for nodes of this grid, with the bearer of their running session",
      );
    }
    const sha256 = pathname.slice(WEIGHTS_PATH.length);
    try {
      return await this.#serve(request, { nodeId, bearer }, sha256);
    } catch (thrown) {
      this.#ports.log.error({ nodeId, sha256, cause: describeFault(thrown) }, "weights cannot be read");
      return refused(500, "internal", "the coordinator cannot read the model's file");
    }
  }

  async #serve(request: Request, { nodeId, bearer }: Downloader, sha256: string): Promise<Response> {
    const model = ID_PATTERNS.sha256.test(sha256) ? this.#ports.models.byWeights(sha256Hex(sha256)) : null;
    if (model === null) return refused(404, "not-found", "this grid has no model with these weights");
    const running = this.#running.get(nodeId) ?? 0;
    if (this.#runningCount >= DOWNLOADS_MAX || running >= DOWNLOADS_PER_NODE_MAX) {
      return refused(503, "no-capacity", "too many downloads are running", {
        "retry-after": String(BUSY_RETRY_SECONDS),
      });
    }
    const { fileBytes } = model.manifest;
    const range = readRange(request.headers.get("range"), fileBytes);
    if (range === "unsatisfiable") {
      return refused(416, "invalid-request", `the file has ${fileBytes} bytes`, {
        "content-range": `bytes */${fileBytes}`,
      });
    }
    const { from, to } = range ?? { from: 0, to: fileBytes };
    const headers = {
      "content-type": "application/octet-stream",
      "content-length": String(to - from),
      "accept-ranges": "bytes",
      "cache-control": "no-store",
      etag: `"${sha256}"`,
      ...(range === null ? {} : { "content-range": `bytes ${from}-${to - 1}/${fileBytes}` }),
    };
    const status = range === null ? 200 : 206;
    if (request.method === "HEAD") return new Response(null, { status, headers });
    const file = await this.#opened(model.weightsPath, nodeId);
    if (file.fileBytes !== fileBytes) {
      this.#count(nodeId, -1);
      await file.close();
      return refused(
        500,
        "internal",
        `the model's file has ${file.fileBytes} bytes and was registered with ${fileBytes}`,
      );
    }
    return new Response(this.#stream(file, { from, to }, { nodeId, bearer }), { status, headers });
  }

  /** Takes a place before the file is opened: requests that come together must not all find it free. */
  async #opened(path: string, nodeId: NodeId): Promise<ModelFile> {
    this.#count(nodeId, 1);
    try {
      return await this.#ports.modelFiles.open(path);
    } catch (thrown) {
      this.#count(nodeId, -1);
      throw thrown;
    }
  }

  /** Gives the file's place back when it ends. Looks at each part whether the session it was begun in goes on. */
  #stream(file: ModelFile, range: ByteRange, { nodeId, bearer }: Downloader): ReadableStream<Uint8Array> {
    let isOpen = true;
    const end = async () => {
      if (!isOpen) return;
      isOpen = false;
      this.#count(nodeId, -1);
      await file.close();
    };
    let at = range.from;
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          try {
            // Who is not of the grid any more gets no more of it: his next session fetches the rest.
            if (this.#ports.sessions.nodeOfBearer(bearer) !== nodeId)
              throw new FallowError("session-over", SESSION_OVER);
            const bytes = await file.read(at, Math.min(READ_BYTES, range.to - at));
            at += bytes.length;
            controller.enqueue(bytes);
            if (at < range.to) return;
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

  #count(nodeId: NodeId, by: 1 | -1): void {
    const running = (this.#running.get(nodeId) ?? 0) + by;
    if (running === 0) this.#running.delete(nodeId);
    else this.#running.set(nodeId, running);
    this.#runningCount += by;
  }
}

/** Null for no range, or one that need not be honoured. */
function readRange(header: string | null, fileBytes: number): ByteRange | "unsatisfiable" | null {
  const [, first = "", last = ""] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? "") ?? [];
  if (first === "" && last === "") return null;
  if (first === "") {
    const count = Math.min(Number(last), fileBytes);
    return count === 0 ? "unsatisfiable" : { from: fileBytes - count, to: fileBytes };
  }
  const from = Number(first);
  const to = last === "" ? fileBytes : Math.min(Number(last) + 1, fileBytes);
  if (last !== "" && Number(last) < from) return null;
  return from >= fileBytes ? "unsatisfiable" : { from, to };
}

function refused(
  status: number,
  code: string,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return Response.json({ error: { message, type: "invalid_request_error", param: null, code } }, { status, headers });
}
