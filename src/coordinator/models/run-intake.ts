/** What one run of an intake job does, from the reference to the registered model. It goes on where an earlier run was cut. */
import { FallowError } from "../../domain/fault.ts";
import { toHex } from "../../domain/hex.ts";
import { ID_PATTERNS, type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import type { Outcome } from "../../domain/refusal.ts";
import { chunksOfFile, DIGEST_BYTES, weightsSha256Of } from "../../domain/weights.ts";
import type { Crypto, KeyPair } from "../../ports/crypto.ts";
import type { IncomingModels } from "../../ports/incoming-models.ts";
import type { FileDigests, ModelFiles } from "../../ports/model-files.ts";
import type { ModelSources, ResolvedSource, SourceFile } from "../../ports/model-source.ts";
import type { ModelRecord } from "../../ports/store.ts";
import { chunkBytesFor } from "../../weights/build-manifest.ts";
import { parseSignedManifest } from "../../wire/weights-manifest.ts";
import { earlyLook } from "./early-look.ts";
import { fetchFiles } from "./fetch-files.ts";
import type { JobNote, JobStep } from "./intake-job.ts";
import type { ModelCatalogue, ModelTerms, ReadyWeights } from "./model-catalogue.ts";
import { type FileOfWeights, readWeights, type WeightsFacts } from "./read-weights.ts";

export interface IntakePorts {
  readonly sources: ModelSources;
  readonly incoming: IncomingModels;
  readonly modelFiles: ModelFiles;
  readonly catalogue: Pick<ModelCatalogue, "register" | "checkId" | "conflictOf">;
  readonly crypto: Crypto;
  readonly gridKey: KeyPair;
}

/** What a run tells while it goes. */
export interface IntakeWatch {
  readonly signal: AbortSignal;
  step(step: JobStep): void;
  resolved(source: ResolvedSource, totalBytes: number): void;
  progress(progress: { doneBytes: number; cameBytes: number }): void;
  waiting(why: string): void;
  /** Keeps the note: what was resolved must be known before bytes of it are kept. */
  keep(resolved: NonNullable<JobNote["resolved"]>): Promise<void>;
}

/** Rejects with what the source, the disk or the store rejects. */
export async function runIntake(note: JobNote, ports: IntakePorts, watch: IntakeWatch): Promise<Outcome<ModelRecord>> {
  const { terms } = note;
  watch.step("resolving");
  const looking = { isFirst: note.resolved === null, onWait: (why: string) => watch.waiting(why) };
  const source = await ports.sources.resolve(note.resolved?.pinned ?? note.reference, watch.signal, looking);
  const id = ports.catalogue.checkId(terms.id ?? source.suggestedId);
  if (!id.ok) return id;
  const totalBytes = source.files.reduce((sum, { fileBytes }) => sum + (fileBytes ?? 0), 0);
  watch.resolved(source, totalBytes);
  const claimed = claimedDigest(source.files, ports.crypto);
  if (claimed !== null) {
    const conflict = await ports.catalogue.conflictOf(id.value, claimed);
    if (conflict !== null) return { ok: false, reason: conflict };
    const kept = await keptFacts(claimed, ports, watch.signal);
    if (kept !== null) {
      watch.progress({ doneBytes: totalBytes, cameBytes: 0 });
      return await finish({ source, terms, facts: kept.facts, files: kept.files }, ports, watch);
    }
  }
  const isLocal = source.files.every(({ localPath }) => localPath !== null);
  const files = isLocal ? localFiles(source.files) : await fetchAll(note, source, ports, watch);
  watch.step("checking");
  const read = await readWeights(files, {
    ...ports,
    signal: watch.signal,
    onBytes: (doneBytes) => watch.progress({ doneBytes, cameBytes: 0 }),
  });
  if (!read.ok) return read;
  const paths = files.map(({ path }) => ({ path, isOurs: !isLocal }));
  return await finish({ source, terms, facts: read.value, files: paths }, ports, watch);
}

async function fetchAll(
  note: JobNote,
  source: ResolvedSource,
  ports: IntakePorts,
  watch: IntakeWatch,
): Promise<readonly FileOfWeights[]> {
  const sizes = source.files.map(({ fileBytes }) => fileBytes ?? 0);
  const chunkBytes = chunkBytesFor(sizes);
  if (chunkBytes === null) throw new FallowError("model-source-refused", "the model is larger than 16 TiB");
  const before = note.resolved;
  await watch.keep({
    pinned: source.pinned,
    chunkBytes,
    files: source.files.map(({ name, fileBytes, version }) => ({ name, fileBytes: fileBytes ?? 0, version })),
  });
  watch.step("fetching");
  const [only] = source.files;
  const isSingle = source.files.length === 1 && only !== undefined;
  const look = isSingle ? earlyLook({ fileBytes: only.fileBytes ?? 0, name: only.name }, ports) : null;
  return await fetchFiles(source.files, {
    incoming: ports.incoming,
    jobId: note.jobId,
    chunkBytes,
    signal: watch.signal,
    knownVersions: before?.files.map(({ version }) => version) ?? [],
    onProgress: (progress) => watch.progress(progress),
    onWait: (why) => watch.waiting(why),
    look: async (file) => await look?.(file),
  });
}

async function finish(
  made: {
    source: ResolvedSource;
    terms: ModelTerms;
    facts: WeightsFacts;
    files: ReadyWeights["files"];
  },
  { catalogue }: IntakePorts,
  watch: IntakeWatch,
): Promise<Outcome<ModelRecord>> {
  const { source, terms, facts, files } = made;
  watch.step("registering");
  watch.signal.throwIfAborted();
  const { origin, licence, suggestedId, pinned } = source;
  const from = origin.kind === "local" ? null : pinned;
  return await catalogue.register({ facts, files, origin, licence, source: from, suggestedId }, terms);
}

function localFiles(files: readonly SourceFile[]): readonly FileOfWeights[] {
  return files.flatMap(({ localPath, name }) => (localPath === null ? [] : [{ path: localPath, name, digests: null }]));
}

/** Of the weights, when the source claims one for every file. */
function claimedDigest(files: readonly SourceFile[], crypto: Crypto): Sha256Hex | null {
  const digests = files.flatMap(({ sha256 }) =>
    sha256 !== null && ID_PATTERNS.sha256.test(sha256) ? [sha256Hex(sha256)] : [],
  );
  return digests.length === files.length ? weightsSha256Of(digests, (data) => crypto.sha256(data)) : null;
}

/** The facts of weights that are kept with their manifest: their headers are read, their bytes are not hashed again. */
async function keptFacts(
  weightsSha256: Sha256Hex,
  { modelFiles, crypto, gridKey }: IntakePorts,
  signal: AbortSignal,
): Promise<{ facts: WeightsFacts; files: ReadyWeights["files"] } | null> {
  const content = await modelFiles.content(weightsSha256);
  if (content === null) return null;
  const manifest = parseSignedManifest(content.signedManifest, {
    gridPublicKeyHex: toHex(gridKey.publicKey),
    verify: (claim) => crypto.verify(claim),
    sha256: (data) => crypto.sha256(data),
    weightsSha256,
  });
  if (!manifest.ok || manifest.value.files.length !== content.files.length) return null;
  let from = 0;
  const files = manifest.value.files.map(({ name, sha256, fileBytes }, at) => {
    const to = from + chunksOfFile(fileBytes, manifest.value.chunkBytes) * DIGEST_BYTES;
    const digests: FileDigests = { sha256, chunkDigests: content.digests.subarray(from, to) };
    from = to;
    return { path: content.files[at] ?? "", name, digests };
  });
  const read = await readWeights(files, { modelFiles, crypto, signal });
  if (!read.ok || read.value.weightsSha256 !== weightsSha256) return null;
  return { facts: read.value, files: files.map(({ path }) => ({ path, isOurs: false })) };
}
