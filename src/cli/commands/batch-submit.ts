/** `fallow batch submit`: sends a file as it is, or its lines as prompts, and begins a batch of it. */
import { randomBytes } from "node:crypto";
import { createReadStream, createWriteStream, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { batchObjectSchema } from "../../wire/openai/batches.ts";
import { fileObjectSchema } from "../../wire/openai/files.ts";
import { CliError, systemCode } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { connectGrid, type GlobalOptions, type GridClient } from "../grid-client.ts";
import { note, printJson } from "../terminal.ts";
import { describeBatch, followBatch } from "./batch.ts";
import { openShown } from "./model-progress.ts";

export interface SubmitOptions extends GlobalOptions {
  readonly endpoint: string;
  readonly model?: string;
  readonly maxTokens?: number;
  readonly watch?: boolean;
}

export async function submitBatch(path: string, options: SubmitOptions): Promise<void> {
  const grid = connectGrid(options);
  const made = options.model === undefined ? null : await requestsFrom(path, { ...options, model: options.model });
  try {
    const file = await upload(grid, made?.path ?? path, options.json === true);
    const batch = await grid.json("/v1/batches", batchObjectSchema, {
      body: { input_file_id: file, endpoint: options.endpoint, completion_window: "24h" },
    });
    if (options.watch === true) return await followBatch(grid, batch.id, options);
    if (options.json === true) return printJson(batch);
    note(describeBatch(batch));
    note(`\`fallow batch watch ${batch.id}\` shows how far it is`);
  } finally {
    made?.remove();
  }
}

async function upload(grid: GridClient, path: string, isJson: boolean): Promise<string> {
  const size = sizeOf(path);
  const boundary = `fallow${randomBytes(16).toString("hex")}`;
  const name = basename(path).replace(/["\r\n\\]/g, "_");
  const field = `--${boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n`;
  const head = Buffer.from(
    `${field}--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${name}"\r\nContent-Type: application/jsonl\r\n\r\n`,
  );
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`);
  const shown = openShown(isJson);
  async function* parts(): AsyncGenerator<Buffer> {
    yield head;
    let doneBytes = 0;
    for await (const part of createReadStream(path)) {
      const bytes = Buffer.from(part);
      doneBytes += bytes.length;
      shown.show(`sending ${name}`, { doneBytes, totalBytes: size, bytesPerSecond: null });
      yield bytes;
    }
    yield tail;
  }
  try {
    const bytes = head.length + size + tail.length;
    const contentType = `multipart/form-data; boundary=${boundary}`;
    const source = Readable.from(parts());
    return (await grid.json("/v1/files", fileObjectSchema, { upload: { contentType, bytes, source } })).id;
  } finally {
    shown.end();
  }
}

function sizeOf(path: string): number {
  try {
    const facts = statSync(path);
    if (facts.isFile()) return facts.size;
  } catch (thrown) {
    throw unreadable(path, systemCode(thrown) ?? "unknown cause");
  }
  throw unreadable(path, "it is no file");
}

function unreadable(path: string, why: string): CliError {
  return new CliError(`${path} cannot be read (${why})`, {
    exitCode: EXIT.usage,
    code: "file-unreadable",
    fix: "name a file of requests, one JSON object a line, or one of prompts with --model",
  });
}

/** A file of requests for a file of prompts, line by line: neither is held in memory. */
async function requestsFrom(
  path: string,
  options: SubmitOptions & { readonly model: string },
): Promise<{ readonly path: string; remove(): void }> {
  sizeOf(path);
  const folder = mkdtempSync(join(tmpdir(), "fallow-batch-"));
  const made = join(folder, `${basename(path)}.jsonl`);
  const remove = () => rmSync(folder, { recursive: true, force: true });
  try {
    await pipeline(Readable.from(requestLines(path, options)), createWriteStream(made, { mode: 0o600 }));
    return { path: made, remove };
  } catch (thrown) {
    remove();
    throw thrown;
  }
}

async function* requestLines(
  path: string,
  options: SubmitOptions & { readonly model: string },
): AsyncGenerator<string> {
  let number = 0;
  for await (const prompt of createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY })) {
    number += 1;
    if (prompt.trim() === "") continue;
    const body = { model: options.model, ...asked(prompt, options) };
    yield `${JSON.stringify({ custom_id: `line-${number}`, method: "POST", url: options.endpoint, body })}\n`;
  }
}

function asked(prompt: string, { endpoint, maxTokens }: SubmitOptions): Readonly<Record<string, unknown>> {
  switch (endpoint) {
    case "/v1/embeddings":
      return { input: prompt };
    case "/v1/completions":
      return { prompt, ...(maxTokens === undefined ? {} : { max_tokens: maxTokens }) };
    case "/v1/responses":
      return { input: prompt, ...(maxTokens === undefined ? {} : { max_output_tokens: maxTokens }) };
    default: {
      const messages = [{ role: "user", content: prompt }];
      return { messages, ...(maxTokens === undefined ? {} : { max_completion_tokens: maxTokens }) };
    }
  }
}
