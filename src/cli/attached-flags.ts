/** How an owner lends a server that he runs, or has his agent run one: `--engine-url`, `--engine-kind`, `--engine-model`, `--engine-slots`, `--engine-launch`. */
import { readFileSync } from "node:fs";
import { type Command, InvalidArgumentError, Option } from "commander";
import { z } from "zod";
import { ATTACHED_KINDS, type AttachedKind } from "../domain/attached-engine.ts";
import { ID_PATTERNS } from "../domain/ids.ts";
import { LAUNCHED_KINDS, type ServerLaunch } from "../domain/server-launch.ts";
import { CliError } from "./cli-error.ts";
import { wholeNumber } from "./command-options.ts";
import { EXIT } from "./exit-codes.ts";

export interface AttachedFlags {
  readonly engineUrl?: string;
  readonly engineKind: AttachedKind | "auto";
  readonly engineModel?: readonly (readonly [ours: string, theirs: string])[];
  readonly engineSlots?: number;
  readonly engineLaunch?: string;
  readonly ownEngine: boolean;
}

const SLOTS_MAX = 64;
const LAUNCH_BYTES_MAX = 64 * 1024;
const ARGS_MAX = 256;

const launchSchema = z.strictObject({
  kind: z.enum(LAUNCHED_KINDS),
  program: z.string().min(1).nullable().default(null),
  model: z.string().min(1),
  port: z.number().int().min(1).max(65_535),
  tensorParallelSize: z.number().int().min(1).max(64).nullable().default(null),
  quantization: z.string().min(1).max(64).nullable().default(null),
  gpuMemoryFraction: z.number().gt(0).max(1).nullable().default(null),
  gpuLayers: z.number().int().min(0).nullable().default(null),
  contextTokens: z.number().int().min(8).nullable().default(null),
  sequencesMax: z.number().int().min(1).max(SLOTS_MAX).nullable().default(null),
  args: z.array(z.string()).max(ARGS_MAX).readonly().default([]),
}) satisfies z.ZodType<ServerLaunch>;

export const attachedWishSchema = z.object({
  url: z.string(),
  kind: z.enum([...ATTACHED_KINDS, "auto"]),
  models: z.array(z.tuple([z.string(), z.string()])).readonly(),
  slots: z.number().int().min(1).max(SLOTS_MAX).nullable(),
  launch: launchSchema.nullable(),
  /** Its own engine may run models beside the server. */
  hasOwnEngine: z.boolean(),
});
export type AttachedWish = z.infer<typeof attachedWishSchema>;

export function withAttachedOptions(command: Command): Command {
  return command
    .option(
      "--engine-url <address>",
      "lend a server that runs already (vLLM, SGLang, llama-server, Ollama, LM Studio, TGI), e.g. http://127.0.0.1:11434; FALLOW_ENGINE_KEY holds its key if it wants one",
      serverUrl,
    )
    .addOption(
      new Option("--engine-kind <kind>", "what answers there").choices(["auto", ...ATTACHED_KINDS]).default("auto"),
    )
    .option(
      "--engine-model <ours=theirs>",
      "the grid's name of a model and the server's, e.g. llama-3-8b=llama3:8b; may be given several times (default: all under their own names)",
      modelPair,
    )
    .option(
      "--engine-slots <n>",
      "requests that the server is given at once (default: what it tells)",
      wholeNumber({ min: 1, max: SLOTS_MAX }),
    )
    .option("--engine-launch <file>", "start a vLLM or llama-server as this JSON file says, and keep it running")
    .option("--no-own-engine", "run nothing on this machine beside that server");
}

/** Null when none was named. */
export function attachedWishOf(flags: AttachedFlags): AttachedWish | null {
  const launch = flags.engineLaunch === undefined ? null : readLaunch(flags.engineLaunch);
  if (launch !== null && flags.engineUrl !== undefined) {
    throw usage("--engine-url and --engine-launch name two servers", "give one of them");
  }
  const url = launch === null ? flags.engineUrl : `http://127.0.0.1:${launch.port}`;
  if (url === undefined) {
    const isAlone = flags.engineModel === undefined && flags.engineSlots === undefined && flags.ownEngine;
    if (isAlone) return null;
    throw usage("options of a server were given and no server", "name it with --engine-url or --engine-launch");
  }
  const kind = launch?.kind ?? flags.engineKind;
  const models = (flags.engineModel ?? []).map(([ours, theirs]): [string, string] => [ours, theirs]);
  return { url, kind, models, slots: flags.engineSlots ?? null, launch, hasOwnEngine: flags.ownEngine };
}

function readLaunch(path: string): ServerLaunch {
  let value: unknown;
  try {
    const text = readFileSync(path, "utf8");
    if (text.length > LAUNCH_BYTES_MAX) throw new Error(`it has more than ${LAUNCH_BYTES_MAX} bytes`);
    value = JSON.parse(text);
  } catch (cause) {
    throw usage(`${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, LAUNCH_FIX, cause);
  }
  const found = launchSchema.safeParse(value);
  if (found.success) return found.data;
  throw usage(`${path}: ${z.prettifyError(found.error).replace(/\s+/g, " ")}`, LAUNCH_FIX);
}

const LAUNCH_FIX = 'give a file such as {"kind":"vllm","model":"/models/llama","port":8000} (docs/engines-attached.md)';

function usage(message: string, fix: string, cause?: unknown): CliError {
  return new CliError(message, { exitCode: EXIT.usage, code: "usage", fix, cause });
}

/** A commander parser. */
export function serverUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isPlain = url !== null && url.username === "" && url.search === "" && url.hash === "";
  if (isPlain && (url.protocol === "http:" || url.protocol === "https:")) return text.replace(/\/+$/, "");
  throw new InvalidArgumentError(
    "It must be an http or https address without user or query, such as http://127.0.0.1:8000.",
  );
}

/** A commander parser, called once for each pair. */
export function modelPair(
  text: string,
  before: readonly (readonly [string, string])[] = [],
): readonly (readonly [string, string])[] {
  const at = text.indexOf("=");
  const [ours, theirs] = [text.slice(0, at), text.slice(at + 1)];
  if (at < 1 || theirs === "" || !ID_PATTERNS.model.test(ours)) {
    throw new InvalidArgumentError("It must be the grid's name of a model, =, and the server's.");
  }
  if (before.some(([known]) => known === ours)) throw new InvalidArgumentError(`${ours} was given before.`);
  return [...before, [ours, theirs]];
}
