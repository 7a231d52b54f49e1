/**
 * What a model consists of, from who signed it: the manifest and the digests of all chunks, as they lie beside what this node has, else
 * from the coordinator. Neither is believed: the grid's key must have signed the manifest, and the digests must give its roots. So a node
 * that has a model can use and serve it while the coordinator gives no weights.
 */
import { describeFault, FallowError } from "../../../domain/fault.ts";
import type { Sha256Hex } from "../../../domain/ids.ts";
import { chunkCountOf } from "../../../domain/weights.ts";
import type { ChunkStore, StoredContent } from "../../../ports/chunk-store.ts";
import type { Crypto } from "../../../ports/crypto.ts";
import type { Log } from "../../../ports/log.ts";
import type { WeightsSource } from "../../../ports/weights-source.ts";
import { checkDigests } from "../../../weights/chunk-digests.ts";
import { parseSignedManifest } from "../../../wire/weights-manifest.ts";
import type { CoordinatorLine } from "./coordinator-line.ts";

export interface TrustedContentPorts {
  readonly store: ChunkStore;
  readonly source: WeightsSource;
  readonly crypto: Crypto;
  readonly line: CoordinatorLine;
  readonly log: Log;
}

/** Null when nothing that can be trusted lies here. */
export async function keptContent(ports: TrustedContentPorts, weightsSha256: Sha256Hex): Promise<StoredContent | null> {
  const kept = await ports.store.kept(weightsSha256);
  if (kept === null) return null;
  try {
    return checked(ports, weightsSha256, kept);
  } catch (thrown) {
    ports.log.warn({ weightsSha256, cause: describeFault(thrown) }, "kept weights are not those of this grid");
    return null;
  }
}

/** Rejects `weights-unreachable`, and `weights-manifest-refused` (with `data.refusal`) for what is not what the grid signed. */
export async function trustedContent(
  ports: TrustedContentPorts,
  weightsSha256: Sha256Hex,
  signal: AbortSignal,
): Promise<StoredContent> {
  const kept = await keptContent(ports, weightsSha256);
  if (kept !== null) return kept;
  const { bearer } = ports.line;
  if (bearer === null) throw new FallowError("weights-unreachable", "there is no session with the coordinator");
  const options = { bearer, signal };
  const signedManifest = await ports.source.manifest(weightsSha256, options);
  const manifest = parsed(ports, weightsSha256, signedManifest);
  const digests = await ports.source.digests(weightsSha256, chunkCountOf(manifest), options);
  return checked(ports, weightsSha256, { signedManifest, digests });
}

function parsed(
  ports: TrustedContentPorts,
  weightsSha256: Sha256Hex,
  signedManifest: Uint8Array,
): StoredContent["manifest"] {
  const { crypto, line } = ports;
  if (line.gridKeyHex === null) {
    throw refused("grid-key-unknown", "this coordinator signs no manifests of weights: it is older than this agent");
  }
  const manifest = parseSignedManifest(signedManifest, {
    gridPublicKeyHex: line.gridKeyHex,
    verify: (claim) => crypto.verify(claim),
    sha256: (data) => crypto.sha256(data),
    weightsSha256,
  });
  if (!manifest.ok) throw refused(manifest.reason.code, manifest.reason.message);
  return manifest.value;
}

function checked(
  ports: TrustedContentPorts,
  weightsSha256: Sha256Hex,
  { signedManifest, digests }: Pick<StoredContent, "signedManifest" | "digests">,
): StoredContent {
  const manifest = parsed(ports, weightsSha256, signedManifest);
  const fit = checkDigests(manifest, digests, (data) => ports.crypto.sha256(data));
  if (!fit.ok) throw refused(fit.reason.code, fit.reason.message);
  return { manifest, digests, signedManifest };
}

function refused(refusal: string, message: string): FallowError {
  return new FallowError("weights-manifest-refused", `the manifest of the weights is refused: ${message}`, {
    data: { refusal },
  });
}
