/**
 * Tenants' files: taken in a stream, kept by id, given back in a stream. Nothing of a file that was refused, broke off or did not fit stays
 * on the disk.
 */
import { describeFault, FallowError } from "../../domain/fault.ts";
import { type FileId, fileId, ID_PATTERNS, type TenantId } from "../../domain/ids.ts";
import { type Outcome, ok, refuse } from "../../domain/refusal.ts";
import type { FilePage, FileRecord } from "../../ports/batch-store.ts";
import type { BlobWriter } from "../../ports/blob-files.ts";
import type { Timer } from "../../ports/clock.ts";
import type { MultipartForm } from "../../ports/multipart.ts";
import { UPLOAD_PURPOSES } from "../../wire/openai/files.ts";
import type { JobOptions } from "./job-options.ts";
import type { JobPorts } from "./job-ports.ts";

/** What a form has beside its file: fields, headers, boundaries. */
const FORM_BYTES_MAX = 65_536;
const FIELDS = { fieldsMax: 16, fieldBytesMax: 1_024 } as const;
const FILENAME_CHARS_MAX = 512;
/** As OpenAI: a batch's input is kept for 30 days, others until they are deleted. */
const BATCH_INPUT_MS = 30 * 86_400_000;
const EXPIRY_S = { least: 3_600, most: 2_592_000 } as const;
/** Of an upload between two looks at the room that is left, which other uploads share: far below the disk's headroom for a hundred of them. */
const GRANT_BYTES = 4 * 1024 ** 2;
const SWEEP_MS = 60_000;
const SWEPT_AT_ONCE = 100;

export interface Upload {
  readonly tenantId: TenantId;
  readonly contentType: string | null;
  /** As declared; null when it is not. */
  readonly contentLength: number | null;
  readonly body: AsyncIterable<Uint8Array>;
}

export type FileDeskPorts = Pick<JobPorts, "clock" | "ids" | "log" | "blobs" | "multipart" | "store">;

export class FileDesk {
  readonly #ports: FileDeskPorts;
  readonly #options: JobOptions;
  /** Bytes that are coming in. */
  readonly #incoming = new Map<TenantId, number>();
  #timer: Timer | null = null;

  constructor(ports: FileDeskPorts, options: JobOptions) {
    this.#ports = ports;
    this.#options = options;
  }

  async start(): Promise<void> {
    await this.#ports.blobs.sweep();
    this.#schedule();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  async upload(upload: Upload): Promise<Outcome<FileRecord>> {
    const { fileBytesMax } = this.#options;
    const { contentLength, tenantId } = upload;
    if (contentLength !== null && contentLength > fileBytesMax + FORM_BYTES_MAX) {
      return refuse("body-too-large", `the upload has ${contentLength} bytes; a file has at most ${fileBytesMax}`);
    }
    const room = await this.#room(tenantId);
    if (!room.ok) return room;
    if (contentLength !== null && contentLength - FORM_BYTES_MAX > room.value) return noRoom(room.value);
    let granted = 0;
    const writing = new Writing(this.#ports, this.newId());
    try {
      const form = await this.#ports.multipart.read(upload, { fileBytesMax, ...FIELDS }, async (bytes) => {
        this.#incoming.set(tenantId, (this.#incoming.get(tenantId) ?? 0) + bytes.length);
        writing.bytes += bytes.length;
        if (writing.bytes > granted) {
          const leftBytes = await this.#leftBytes(tenantId);
          if (leftBytes < 0) throw new FallowError("no-room", "the tenant's or the disk's room is used up");
          granted = writing.bytes + Math.min(leftBytes, GRANT_BYTES);
        }
        await writing.write(bytes);
      });
      return form.ok ? await this.#keep(form.value, { tenantId, writing }) : form;
    } catch (thrown) {
      if (!(thrown instanceof FallowError)) throw thrown;
      if (thrown.code === "no-room" || thrown.code === "disk-full") return noRoom(room.value);
      throw thrown;
    } finally {
      this.#incoming.set(tenantId, (this.#incoming.get(tenantId) ?? 0) - writing.bytes);
      if (this.#incoming.get(tenantId) === 0) this.#incoming.delete(tenantId);
      await writing.discard();
    }
  }

  newId(): FileId {
    return fileId(this.#ports.ids.make("file").replace("_", "-"));
  }

  list(page: FilePage): Promise<readonly FileRecord[]> {
    return this.#ports.store.files.list(page);
  }

  /** Refuses what is not there and what is another tenant's in the same words. */
  async find(tenantId: TenantId, id: string, param = "id"): Promise<Outcome<FileRecord>> {
    const found = ID_PATTERNS.file.test(id) ? await this.#ports.store.files.get(fileId(id)) : null;
    if (found !== null && found.tenantId === tenantId) return ok(found);
    return refuse("not-found", `No such File object: ${id.slice(0, 64)}`, { param });
  }

  async remove(file: FileRecord): Promise<void> {
    await this.#ports.store.files.remove(file.fileId);
    await this.#ports.blobs.remove(file.fileId);
  }

  async #keep(
    { fields, file }: MultipartForm,
    to: { tenantId: TenantId; writing: Writing },
  ): Promise<Outcome<FileRecord>> {
    const purpose = fields.get("purpose");
    if (purpose === undefined) return refuse("invalid-request", "'purpose' is missing", { param: "purpose" });
    if (!UPLOAD_PURPOSES.some((known) => known === purpose)) {
      const shown = JSON.stringify(purpose.slice(0, 40));
      return refuse("invalid-request", `'purpose' is ${shown}; one of ${UPLOAD_PURPOSES.join(", ")} is taken`, {
        param: "purpose",
      });
    }
    if (file === null) return refuse("invalid-request", "'file' is missing", { param: "file" });
    if (file.bytes === 0) return refuse("invalid-request", "the file is empty", { param: "file" });
    const createdAtMs = Math.floor(this.#ports.clock.wallMs());
    const life = lifeOf(fields, purpose);
    if (!life.ok) return life;
    const bytes = await to.writing.finish();
    const record: FileRecord = {
      fileId: to.writing.fileId,
      tenantId: to.tenantId,
      purpose,
      filename: file.filename.slice(0, FILENAME_CHARS_MAX),
      bytes,
      createdAtMs,
      expiresAtMs: life.value === null ? null : createdAtMs + life.value,
    };
    await this.#ports.store.files.create(record);
    return ok(record);
  }

  /** Bytes that this tenant may still bring. */
  async #room(tenantId: TenantId): Promise<Outcome<number>> {
    const { tenantFileBytesMax, tenantFilesMax } = this.#options;
    if ((await this.#ports.store.files.countOf(tenantId)) >= tenantFilesMax) {
      return refuse("body-too-large", `you have ${tenantFilesMax} files, the most that may be; delete some`, {
        param: "file",
      });
    }
    const used = (await this.#ports.store.files.bytesOf(tenantId)) + (this.#incoming.get(tenantId) ?? 0);
    if (used >= tenantFileBytesMax) {
      const message = `your files take ${used} of ${tenantFileBytesMax} bytes; delete some`;
      return refuse("body-too-large", message, { param: "file" });
    }
    return ok(Math.max(0, await this.#leftBytes(tenantId)));
  }

  /** Beside what is kept and what comes in at this moment, in this upload too; negative when that is too much. */
  async #leftBytes(tenantId: TenantId): Promise<number> {
    const kept = await this.#ports.store.files.bytesOf(tenantId);
    const free = (await this.#ports.blobs.freeBytes()) ?? Number.POSITIVE_INFINITY;
    const ofTenant = this.#options.tenantFileBytesMax - kept - (this.#incoming.get(tenantId) ?? 0);
    return Math.min(free > 0 ? free : -1, ofTenant);
  }

  #schedule(): void {
    this.#timer = this.#ports.clock.setTimer(SWEEP_MS, () => {
      void this.#removeExpired().finally(() => {
        if (this.#timer !== null) this.#schedule();
      });
    });
  }

  /** Never rejects: what failed is due again. */
  async #removeExpired(): Promise<void> {
    const { store, clock, log } = this.#ports;
    try {
      const nowMs = Math.floor(clock.wallMs());
      const expired = await store.files.expired({ nowMs, limit: SWEPT_AT_ONCE });
      for (const file of expired) await this.remove(file);
      if (expired.length > 0) log.info({ files: expired.length }, "expired files removed");
    } catch (thrown) {
      log.warn({ cause: describeFault(thrown) }, "expired files not removed");
    }
  }
}

/** A file that comes in; nothing is opened before its first byte. */
class Writing {
  readonly fileId: FileId;
  bytes = 0;
  readonly #blobs: FileDeskPorts["blobs"];
  #writer: BlobWriter | null = null;

  constructor({ blobs }: FileDeskPorts, id: FileId) {
    this.#blobs = blobs;
    this.fileId = id;
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#writer ??= await this.#blobs.create(this.fileId);
    await this.#writer.write(bytes);
  }

  async finish(): Promise<number> {
    return (await this.#writer?.finish()) ?? 0;
  }

  async discard(): Promise<void> {
    await this.#writer?.discard();
  }
}

function noRoom(bytes: number) {
  const message = `there is room for ${bytes} more bytes of yours here, and the file is larger; delete files, or send a smaller one`;
  return refuse("body-too-large", message, { param: "file" });
}

function lifeOf(fields: ReadonlyMap<string, string>, purpose: string): Outcome<number | null> {
  const seconds = fields.get("expires_after[seconds]");
  const anchor = fields.get("expires_after[anchor]");
  if (seconds === undefined && anchor === undefined) return ok(purpose === "batch" ? BATCH_INPUT_MS : null);
  if (anchor !== "created_at") {
    return refuse(
      "invalid-request",
      `'expires_after[anchor]' is ${JSON.stringify(anchor ?? null)}; only "created_at" is taken`,
      {
        param: "expires_after[anchor]",
      },
    );
  }
  const wanted = Number(seconds);
  if (Number.isInteger(wanted) && wanted >= EXPIRY_S.least && wanted <= EXPIRY_S.most) return ok(wanted * 1_000);
  const message = `'expires_after[seconds]' is ${JSON.stringify(seconds ?? null)}; ${EXPIRY_S.least} to ${EXPIRY_S.most} is taken`;
  return refuse("invalid-request", message, { param: "expires_after[seconds]" });
}
