/** What answers at an address: which kind of server, which version, which models. Asked once when a node starts, and again for each load. */
import {
  ATTACHED_MODELS_MAX,
  type AttachedKind,
  type AttachedModel,
  type AttachedServer,
} from "../../domain/attached-engine.ts";
import { FallowError } from "../../domain/fault.ts";
import { ID_PATTERNS } from "../../domain/ids.ts";
import type { Dialect, ListedModel } from "./dialect.ts";
import { DIALECTS, dialectOf } from "./dialects/all-dialects.ts";
import type { ServerHttp } from "./server-http.ts";

export interface ServerWish {
  readonly kind: AttachedKind | "auto";
  /** The grid's name of a model, and the server's. */
  readonly names: ReadonlyMap<string, string>;
  /** Sequences at the same time; null: what the server tells, or a guess for its kind. */
  readonly sequencesMax: number | null;
}

export interface FoundServer {
  readonly dialect: Dialect;
  readonly described: AttachedServer;
}

/** The wire takes no more; an engine of 256 sequences is a large one. */
const SEQUENCES_MAX = 64;
const SEQUENCES_GUESS = 4;
const CONTEXT_MIN = 8;

/**
 * Rejects with a `FallowError`: `attached-unreachable` and others of `ServerHttp`, `attached-kind-unknown`, `attached-kind-differs`,
 * `attached-model-missing` (a name that was given and is not on the server).
 */
export async function probeServer(server: ServerHttp, wish: ServerWish, signal: AbortSignal): Promise<FoundServer> {
  const { dialect, version } = await findKind(server, wish.kind, signal);
  const listed = await dialect.models(server, signal);
  for (const [ours, theirs] of wish.names) {
    if (listed.some(({ servedAs }) => servedAs === theirs)) continue;
    const has = listed.map(({ servedAs }) => servedAs).slice(0, 10);
    const message = `${server.baseUrl} does not hold ${theirs}, which ${ours} was to be; it holds ${has.join(", ") || "nothing"}`;
    throw new FallowError("attached-model-missing", message);
  }
  const models = offered(listed, wish).slice(0, ATTACHED_MODELS_MAX);
  return { dialect, described: { kind: dialect.kind, version, isExact: dialect.isExact, models } };
}

async function findKind(
  server: ServerHttp,
  kind: AttachedKind | "auto",
  signal: AbortSignal,
): Promise<{ dialect: Dialect; version: string }> {
  for (const dialect of kind === "auto" ? DIALECTS : [dialectOf(kind)]) {
    const version = await dialect.identify(server, signal);
    if (version !== null) return { dialect, version };
  }
  if (kind !== "auto") {
    throw new FallowError("attached-kind-differs", `what answers at ${server.baseUrl} is no ${kind} server`);
  }
  const known = DIALECTS.map((dialect) => dialect.kind).join(", ");
  throw new FallowError("attached-kind-unknown", `what answers at ${server.baseUrl} is none of ${known}`);
}

/** With names given, those alone; else each model under its own name, where that can be a name of the grid's. */
function offered(listed: readonly ListedModel[], { names, sequencesMax }: ServerWish): readonly AttachedModel[] {
  const offer = (modelId: string, model: ListedModel): AttachedModel => ({
    modelId,
    servedAs: model.servedAs,
    contextTokens: model.contextTokens === null ? null : Math.max(CONTEXT_MIN, model.contextTokens),
    sequencesMax: Math.max(1, Math.min(SEQUENCES_MAX, sequencesMax ?? model.sequencesMax ?? SEQUENCES_GUESS)),
  });
  if (names.size > 0) {
    return [...names].flatMap(([ours, theirs]) => {
      const model = listed.find(({ servedAs }) => servedAs === theirs);
      return model === undefined ? [] : [offer(ours, model)];
    });
  }
  return listed.flatMap((model) => {
    const name = gridName(model.servedAs);
    return ID_PATTERNS.model.test(name) ? [offer(name, model)] : [];
  });
}

/** `/models/tiny-q8_0.gguf` is called `tiny-q8_0`, `llama3:latest` is `llama3`. */
export function gridName(servedAs: string): string {
  const isFile = /\.gguf$/i.test(servedAs);
  const name = isFile ? (servedAs.split(/[/\\]/).at(-1) ?? servedAs) : servedAs;
  return name.replace(/\.gguf$/i, "").replace(/:latest$/, "");
}
