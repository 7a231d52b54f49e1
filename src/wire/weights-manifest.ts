/**
 * A model's manifest on the wire: JSON with its fields in a fixed order, and the grid's Ed25519 signature over a label and that very text.
 * A node takes one only if the grid's key signed it; what it says is checked as if nobody had, because files are made and written by it.
 *
 * Checked in this order, the cheapest first: size, depth, form, key, signature, then the meaning (`weights-manifest-laws.ts`). A text that
 * is not the one of its manifest (spaces, another order, a key twice) is refused, so that a manifest has one text and one signature.
 */
import { z } from "zod";
import { fromHex } from "../domain/hex.ts";
import { type Sha256Hex, sha256Hex } from "../domain/ids.ts";
import type { Sha256 } from "../domain/merkle-tree.ts";
import { no, type Outcome, ok } from "../domain/refusal.ts";
import { WEIGHTS_FILES_MAX, type WeightsManifest } from "../domain/weights.ts";
import { parseJson, whyNot } from "./json-frame.ts";
import { hex } from "./link-atoms.ts";
import { brokenLaw, type ManifestRefusal } from "./weights-manifest-laws.ts";

/** The whole as UTF-8 JSON; the port's `SIGNED_MANIFEST_BYTES_MAX` is the same. */
export const SIGNED_MANIFEST_BYTES_MAX = 8 * 1024 * 1024;
/** Quotes double when the text goes into the outer JSON. A model of 512 layers in 512 files stays below 100,000. */
export const MANIFEST_JSON_CHARS_MAX = 4 * 1024 * 1024;
/** manifest, parts, part, ranges, range. */
const DEPTH_MAX = 5;
/** llama.cpp's LLAMA_MAX_LAYERS is 512; the rest is room. */
export const LAYERS_MAX = 4_096;
/** Header, embedding, output, shared, and each layer. */
const PARTS_MAX = LAYERS_MAX + 4;
/** One range for each tensor of a layer in the worst order; mixtures of experts have some hundreds. */
const RANGES_PER_PART_MAX = 16_384;
const TEXT_CHARS_MAX = 200;
const URL_CHARS_MAX = 2_048;

const size = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const digest = hex(32).transform(sha256Hex);
const fileRange = z.strictObject({ file: size, offset: size, bytes: size.min(1) });
const part = z.strictObject({
  kind: z.enum(["header", "embedding", "output", "shared", "layer"]),
  layer: size.exactOptional(),
  isOutputToo: z.literal(true).exactOptional(),
  ranges: z.array(fileRange).min(1).max(RANGES_PER_PART_MAX),
});
const origin = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("hf"),
    repo: z.string().min(1).max(TEXT_CHARS_MAX),
    revision: z.string().min(1).max(TEXT_CHARS_MAX),
    isPrivate: z.boolean(),
  }),
  z.strictObject({ kind: z.literal("https"), url: z.string().min(1).max(URL_CHARS_MAX) }),
  z.strictObject({ kind: z.literal("local") }),
]);
/** The form alone; `parseSignedManifest` checks what it means. */
export const weightsManifestSchema = z.strictObject({
  version: z.literal(1),
  weightsSha256: digest,
  chunkBytes: size,
  files: z
    .array(z.strictObject({ name: z.string().max(1_024), fileBytes: size, sha256: digest, chunkRoot: digest }))
    .min(1)
    .max(WEIGHTS_FILES_MAX),
  layerCount: z.number().int().min(1).max(LAYERS_MAX),
  parts: z.array(part).min(1).max(PARTS_MAX),
  source: origin,
  licence: z.string().max(TEXT_CHARS_MAX).nullable(),
  tokenizerSha256: digest,
});

const signedManifestSchema = z.strictObject({
  manifestJson: z.string().min(2).max(MANIFEST_JSON_CHARS_MAX),
  signature: hex(64),
  /** The grid's key, so that a foreign manifest is told from a broken one. */
  publicKey: hex(32).exactOptional(),
});
export type SignedManifest = z.infer<typeof signedManifestSchema>;

export interface ManifestChecks {
  /** The key that must have signed: 64 hex. */
  readonly gridPublicKeyHex: string;
  /** `Crypto.verify`. */
  readonly verify: (claim: { publicKey: Uint8Array; message: Uint8Array; signature: Uint8Array }) => boolean;
  readonly sha256: Sha256;
  /** The model that was asked for; another's manifest is refused. */
  readonly weightsSha256?: Sha256Hex;
}

/** The text whose UTF-8 bytes the grid signs. */
export function manifestSigningText(manifestJson: string): string {
  return `fallow-weights-manifest-v1\n${manifestJson}`;
}

/** The one text of a manifest. */
export function manifestJson(manifest: WeightsManifest): string {
  const { version, weightsSha256, chunkBytes, files, layerCount, parts, source, licence, tokenizerSha256 } = manifest;
  return JSON.stringify({
    version,
    weightsSha256,
    chunkBytes,
    files: files.map(({ name, fileBytes, sha256, chunkRoot }) => ({ name, fileBytes, sha256, chunkRoot })),
    layerCount,
    parts: parts.map(({ kind, layer, isOutputToo, ranges }) => ({
      kind,
      layer,
      isOutputToo,
      ranges: ranges.map(({ file, offset, bytes }) => ({ file, offset, bytes })),
    })),
    source: orderedOrigin(source),
    licence,
    tokenizerSha256,
  });
}

/** What is kept and sent: UTF-8 bytes of the signed manifest. */
export function signedManifestBytes(signed: SignedManifest): Uint8Array {
  const { manifestJson: json, signature, publicKey } = signed;
  return new TextEncoder().encode(JSON.stringify({ manifestJson: json, signature, publicKey }));
}

/** Takes untrusted bytes. The refusal's code is stable; its message has the values, cut where a stranger chose them. */
export function parseSignedManifest(
  bytes: Uint8Array,
  checks: ManifestChecks,
): Outcome<WeightsManifest, ManifestRefusal> {
  if (bytes.length > SIGNED_MANIFEST_BYTES_MAX) {
    return refuse("manifest-too-large", `it has ${bytes.length} bytes; at most ${SIGNED_MANIFEST_BYTES_MAX} are taken`);
  }
  const text = utf8(bytes);
  if (text === null) return refuse("manifest-not-json", "it is not UTF-8");
  const outer = jsonOf(text, "it", 1);
  if (!outer.ok) return outer;
  const signed = signedManifestSchema.safeParse(outer.value);
  if (!signed.success) return refuse("manifest-malformed", `it is not a signed manifest: ${whyNot(signed.error)}`);
  const unsigned = signatureProblem(signed.data, checks);
  if (unsigned !== null) return no(unsigned);
  return parseManifest(signed.data.manifestJson, checks);
}

/** The manifest's own text, when the signature was checked or is not wanted (the coordinator, before it signs). */
export function parseManifest(
  json: string,
  checks: Pick<ManifestChecks, "sha256" | "weightsSha256">,
): Outcome<WeightsManifest, ManifestRefusal> {
  if (json.length > MANIFEST_JSON_CHARS_MAX) {
    return refuse(
      "manifest-too-large",
      `its text has ${json.length} characters; at most ${MANIFEST_JSON_CHARS_MAX} are taken`,
    );
  }
  const value = jsonOf(json, "its text", DEPTH_MAX);
  if (!value.ok) return value;
  const early = earlyProblem(value.value);
  if (early !== null) return no(early);
  const parsed = weightsManifestSchema.safeParse(value.value);
  if (!parsed.success) return refuse("manifest-malformed", `it is not a manifest: ${whyNot(parsed.error)}`);
  const manifest: WeightsManifest = parsed.data;
  if (manifestJson(manifest) !== json) {
    return refuse(
      "manifest-not-canonical",
      "its text is not the one of its manifest: spaces, other order or a key twice",
    );
  }
  const broken = brokenLaw(manifest, checks.sha256);
  if (broken !== null) return no(broken);
  const { weightsSha256: asked } = checks;
  if (asked !== undefined && asked !== manifest.weightsSha256) {
    return refuse("manifest-other-weights", `it is of the weights ${manifest.weightsSha256}; ${asked} were asked for`);
  }
  return ok(manifest);
}

/** What a schema would only call out of range gets a name of its own. */
function earlyProblem(value: unknown): ManifestRefusal | null {
  const versioned = z.object({ version: z.unknown() }).safeParse(value);
  if (versioned.success && versioned.data.version !== 1) {
    const message = `version ${shown(versioned.data.version)} is not 1: this Fallow is too old or the text is not a manifest`;
    return { code: "manifest-version-unknown", message };
  }
  const listed = z.object({ files: z.array(z.unknown()) }).safeParse(value);
  if (listed.success && listed.data.files.length > WEIGHTS_FILES_MAX) {
    const message = `it names ${listed.data.files.length} files; at most ${WEIGHTS_FILES_MAX} are taken`;
    return { code: "manifest-too-many-files", message };
  }
  return null;
}

function signatureProblem(signed: SignedManifest, checks: ManifestChecks): ManifestRefusal | null {
  const { gridPublicKeyHex, verify } = checks;
  if (signed.publicKey !== undefined && signed.publicKey !== gridPublicKeyHex) {
    const message = `it was signed by the key ${signed.publicKey}; this grid's is ${gridPublicKeyHex}`;
    return { code: "manifest-foreign-key", message };
  }
  const publicKey = fromHex(gridPublicKeyHex);
  const signature = fromHex(signed.signature);
  const message = new TextEncoder().encode(manifestSigningText(signed.manifestJson));
  if (publicKey !== null && signature !== null && verify({ publicKey, message, signature })) return null;
  return { code: "manifest-bad-signature", message: `its signature is not one of the grid's key ${gridPublicKeyHex}` };
}

function jsonOf(text: string, what: string, depthMax: number): Outcome<unknown, ManifestRefusal> {
  const depth = depthOf(text, depthMax);
  if (depth > depthMax) return refuse("manifest-too-deep", `${what} nests deeper than ${depthMax}`);
  const value = parseJson(text);
  return value === undefined ? refuse("manifest-not-json", `${what} is not JSON`) : ok(value);
}

/** Stops at the first bracket too many. */
function depthOf(text: string, depthMax: number): number {
  let depth = 0;
  let isInString = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (isInString) {
      if (code === 0x5c) at++;
      else if (code === 0x22) isInString = false;
    } else if (code === 0x22) isInString = true;
    else if (code === 0x7b || code === 0x5b) {
      if (++depth > depthMax) return depth;
    } else if (code === 0x7d || code === 0x5d) depth--;
  }
  return 0;
}

function orderedOrigin(source: WeightsManifest["source"]): WeightsManifest["source"] {
  switch (source.kind) {
    case "hf":
      return { kind: source.kind, repo: source.repo, revision: source.revision, isPrivate: source.isPrivate };
    case "https":
      return { kind: source.kind, url: source.url };
    case "local":
      return { kind: source.kind };
  }
}

function utf8(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null; // the only thing that a fatal decoder throws for
  }
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? "undefined").slice(0, 40);
}

function refuse(
  code: ManifestRefusal["code"],
  message: string,
): { readonly ok: false; readonly reason: ManifestRefusal } {
  return no({ code, message });
}
