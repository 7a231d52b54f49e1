/**
 * Serves weights to agents: `GET /grid/v1/weights/<sha-256>` with the bearer of an open session, so that only nodes of this grid
 * download. `Range: bytes=N-` resumes. A body is read only as fast as it is taken, and its file is closed when it ends or is
 * given up.
 */
import { FallowError } from "../../domain/fault.ts";
import { ID_PATTERNS, type NodeId, sha256Hex } from "../../domain/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { ModelFile, ModelFiles } from "../../ports/model-files.ts";
import { WEIGHTS_PATH } from "../../wire/agent-link.ts";
import type { ModelCatalogue } from "./model-catalogue.ts";

export interface WeightsRoutePorts {
  readonly models: Pick<ModelCatalogue, "byWeights">;
  readonly modelFiles: ModelFiles;
  readonly log: Log;
  nodeOfBearer(bearer: string): NodeId | null;
}

/** Read and sent at a time. */
const PIECE_BYTES = 1024 * 1024;

/** The answer when the path is one of weights, else null. Never rejects. */
export async function weightsResponse(request: Request, ports: WeightsRoutePorts): Promise<Response | null> {
  const { pathname } = new URL(request.url);
  if (!pathname.startsWith(WEIGHTS_PATH)) return null;
  if (request.method !== "GET") return problem(405, "weights are fetched with GET", { allow: "GET" });
  const bearer = /^Bearer (\S{16,128})$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? null;
  if (bearer === null || ports.nodeOfBearer(bearer) === null) {
    return problem(401, "the bearer belongs to no open session of a node");
  }
  const digest = pathname.slice(WEIGHTS_PATH.length);
  const model = ID_PATTERNS.sha256.test(digest) ? ports.models.byWeights(sha256Hex(digest)) : null;
  if (model === null) return problem(404, "no registered model has these weights");
  try {
    return await fileResponse(request, await ports.modelFiles.open(model.weightsPath));
  } catch (thrown) {
    if (!(thrown instanceof FallowError)) throw thrown;
    ports.log.error(
      { modelId: model.manifest.modelId, code: thrown.code, cause: thrown.message },
      "weights unreadable",
    );
    return problem(503, "the weights cannot be read at the moment", { "retry-after": "5" });
  }
}

async function fileResponse(request: Request, file: ModelFile): Promise<Response> {
  const range = request.headers.get("range");
  const offset = range === null ? 0 : Number(/^bytes=(\d{1,15})-$/.exec(range)?.[1] ?? Number.NaN);
  if (!Number.isSafeInteger(offset) || offset > file.fileBytes) {
    await file.close();
    return problem(416, `ask for bytes=N- with N up to ${file.fileBytes}`, {
      "content-range": `bytes */${file.fileBytes}`,
    });
  }
  const headers: Record<string, string> = {
    "content-type": "application/octet-stream",
    "content-length": String(file.fileBytes - offset),
    "accept-ranges": "bytes",
    "cache-control": "no-store",
  };
  if (range !== null) headers["content-range"] = `bytes ${offset}-${file.fileBytes - 1}/${file.fileBytes}`;
  return new Response(bodyOf(file, offset), { status: range === null ? 200 : 206, headers });
}

function bodyOf(file: ModelFile, from: number): ReadableStream<Uint8Array> {
  let at = from;
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        const length = Math.min(PIECE_BYTES, file.fileBytes - at);
        if (length > 0) {
          try {
            controller.enqueue(await file.read(at, length));
          } catch (thrown) {
            await file.close();
            throw thrown;
          }
          at += length;
        }
        if (at < file.fileBytes) return;
        await file.close();
        controller.close();
      },
      cancel: () => file.close(),
    },
    { highWaterMark: 0 },
  );
}

function problem(status: number, message: string, headers: Record<string, string> = {}): Response {
  return Response.json(
    { error: { message, type: "invalid_request_error", param: null, code: null } },
    { status, headers },
  );
}
