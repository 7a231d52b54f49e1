/**
 * How commands talk to a running grid. The address comes from `--url`, else FALLOW_URL, else the home's run.json; the key from
 * `--key`, else FALLOW_API_KEY, else the home's home.json. A grid with its own certificate is met by the certificate's
 * fingerprint from run.json: `node:https` instead of `fetch`, because only there a certificate can be pinned.
 */
import type { ClientRequest, IncomingMessage } from "node:http";
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { pipeline, type Readable } from "node:stream";
import type { TLSSocket } from "node:tls";
import { z } from "zod";
import { CliError, systemCode } from "./cli-error.ts";
import { EXIT } from "./exit-codes.ts";
import { homeFolder } from "./home/home-folder.ts";
import { readSecrets } from "./home/home-secrets.ts";
import { readRunFile } from "./home/run-file.ts";

export interface GlobalOptions {
  readonly home?: string;
  readonly url?: string;
  readonly key?: string;
  readonly json?: boolean;
  readonly verbose?: boolean;
}

/** An answer that nobody has to wait for longer: admin calls read the store, hashing a model may take a while. */
const ANSWER_TIMEOUT_MS = 120_000;
/** Admin answers are lists with bounds of their own; this only guards against a foreign server at the address. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

export interface GridAnswer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: IncomingMessage;
}

export interface GridCall {
  readonly method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly body?: unknown;
  /** Instead of `body`: bytes as they are. */
  readonly upload?: { readonly contentType: string; readonly bytes: number; readonly source: Readable };
  /** What kind of answer is wanted; events come as lines of JSON with `application/x-ndjson`. */
  readonly accept?: string;
  readonly signal?: AbortSignal;
}

export interface GridClient {
  readonly url: string;
  readonly hasKey: boolean;
  /** The whole answer, parsed. Throws a `CliError` for anything but a success. */
  json<T>(path: string, schema: z.ZodType<T>, call?: GridCall): Promise<T>;
  text(path: string, call?: GridCall): Promise<string>;
  /** The answer as it comes; its status is a success. */
  stream(path: string, call?: GridCall): Promise<GridAnswer>;
}

const errorBodySchema = z.object({
  error: z.object({ message: z.string(), code: z.string().nullish(), type: z.string().nullish() }),
});

/** Finds the grid that the options name. Throws when nothing says where it is. */
export function connectGrid(options: GlobalOptions): GridClient {
  const home = homeFolder(options.home);
  const run = readRunFile(home);
  const named = options.url ?? process.env["FALLOW_URL"];
  const url = (named ?? run?.url ?? "").replace(/\/(v1\/?)?$/, "");
  if (url === "") {
    throw new CliError(`no grid runs in ${home.path}`, {
      exitCode: EXIT.unreachable,
      code: "grid-unknown",
      fix: "start one with `fallow up`, or name one with --url",
    });
  }
  if (!/^https?:\/\/[^/]+$/.test(url)) {
    throw new CliError(`${url} is not an address of a grid`, {
      exitCode: EXIT.usage,
      code: "usage",
      fix: "write it as http://host:port",
    });
  }
  const key = options.key ?? process.env["FALLOW_API_KEY"] ?? readSecrets(home)?.apiKey ?? null;
  const certificateSha256 = run !== null && run.url === url ? run.certificateSha256 : null;
  return clientFor({ url, key, certificateSha256 });
}

export function clientFor(grid: { url: string; key: string | null; certificateSha256: string | null }): GridClient {
  const stream = async (path: string, call: GridCall = {}): Promise<GridAnswer> => {
    const answer = await send(grid, path, call);
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw refusal(answer.status, await readAll(answer.body), path);
  };
  const text = async (path: string, call?: GridCall) => readAll((await stream(path, call)).body);
  return {
    url: grid.url,
    hasKey: grid.key !== null,
    stream,
    text,
    async json(path, schema, call) {
      const parsed = schema.safeParse(parseJson(await text(path, call)));
      if (parsed.success) return parsed.data;
      const issue = parsed.error.issues[0];
      throw new CliError(`${grid.url}${path} answered something else than this version of fallow expects`, {
        code: "answer-unexpected",
        fix: `make sure that a fallow grid of the same version runs there (${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""})`,
      });
    },
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the schema refuses it and says so
  }
}

function send(
  grid: { url: string; key: string | null; certificateSha256: string | null },
  path: string,
  call: GridCall,
): Promise<GridAnswer> {
  const target = new URL(path, grid.url);
  const body = call.body === undefined ? null : JSON.stringify(call.body);
  const { upload } = call;
  const headers = {
    ...(upload === undefined ? {} : { "content-type": upload.contentType, "content-length": upload.bytes }),
    ...(grid.key === null ? {} : { authorization: `Bearer ${grid.key}` }),
    ...(call.accept === undefined ? {} : { accept: call.accept }),
    ...(body === null ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
  };
  const pin = grid.certificateSha256;
  const options = {
    method: call.method ?? (body === null && upload === undefined ? "GET" : "POST"),
    headers,
    timeout: ANSWER_TIMEOUT_MS,
    agent: false,
    ...(call.signal === undefined ? {} : { signal: call.signal }),
  };
  return new Promise((resolve, reject) => {
    const onAnswer = (message: IncomingMessage) =>
      resolve({ status: message.statusCode ?? 0, headers: message.headers, body: message });
    const request =
      target.protocol === "https:"
        ? requestHttps(target, { ...options, rejectUnauthorized: pin === null }, onAnswer)
        : requestHttp(target, options, onAnswer);
    request.on("socket", (socket) => {
      if (pin === null || target.protocol !== "https:") return;
      socket.once("secureConnect", () => {
        const met = fingerprintOf(socket);
        if (met !== pin)
          request.destroy(
            new CliError(`the certificate at ${grid.url} is not the grid's (${met})`, { code: "certificate-differs" }),
          );
      });
    });
    request.on("timeout", () => request.destroy(new Error(`no answer within ${ANSWER_TIMEOUT_MS / 1_000} s`)));
    request.on("error", (thrown) => reject(unreachable(grid.url, thrown)));
    if (upload === undefined) request.end(body ?? undefined);
    else sendFrom(upload.source, request);
  });
}

/** The request's own `error` tells what went wrong, also in the source. */
function sendFrom(source: Readable, request: ClientRequest): void {
  pipeline(source, request, (thrown) => {
    if (thrown !== null && thrown !== undefined) request.destroy(thrown);
  });
}

function fingerprintOf(socket: unknown): string {
  // A socket of node:https is a TLSSocket; the event's type does not say so.
  const certificate = (socket as TLSSocket).getPeerCertificate();
  return (certificate.fingerprint256 ?? "").replaceAll(":", "").toLowerCase();
}

function unreachable(url: string, thrown: Error): Error {
  if (thrown instanceof CliError || thrown.name === "AbortError") return thrown;
  const code = systemCode(thrown);
  return new CliError(`no grid answers at ${url} (${code ?? thrown.message})`, {
    exitCode: EXIT.unreachable,
    code: "grid-unreachable",
    fix:
      code === "DEPTH_ZERO_SELF_SIGNED_CERT"
        ? "run the command in the grid's own home, where its certificate is known"
        : "start it with `fallow up`, or name another with --url",
    cause: thrown,
  });
}

const MODELS_PATH = "/admin/v1/models";

/** The command that lists what the path names one of. */
function listCommandOf(path: string): string {
  const noun = ["nodes", "keys", "tenants", "receipts", "ledger", "providers", "batches"].find((one) =>
    path.includes(`/${one}`),
  );
  if (noun === undefined) return "models";
  if (noun === "batches") return "batch list";
  return noun === "ledger" ? "ledger accounts" : `${noun} list`;
}

function refusal(status: number, text: string, path: string): CliError {
  const parsed = errorBodySchema.safeParse(parseJson(text));
  const message = parsed.success ? parsed.data.error.message : `the grid answered ${status} to ${path}`;
  const code = parsed.success ? (parsed.data.error.code ?? "refused") : `http-${status}`;
  if (status >= 500) {
    return new CliError(message, { code, fix: "look at the grid's log, or try again in a moment" });
  }
  const fix =
    status === 401
      ? "give a valid key with --key or FALLOW_API_KEY (`fallow keys create` makes one)"
      : status === 403
        ? "use a key that has the scope named above"
        : status === 404
          ? `see what there is with \`fallow ${listCommandOf(path)}\``
          : path === MODELS_PATH
            ? "change what the message names: the file has to be a whole GGUF file on the grid's machine; fetch a damaged one again"
            : "change what the message names; --help says what is possible";
  return new CliError(message, { exitCode: EXIT.refused, code, fix });
}

export async function readAll(body: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of body) {
    const chunk = Buffer.from(part);
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES_MAX) throw new CliError(`the answer is larger than ${ANSWER_BYTES_MAX} bytes`);
    parts.push(chunk);
  }
  return Buffer.concat(parts).toString("utf8");
}
