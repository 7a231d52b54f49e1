/** Checks of certificates: the grid's own in this home, and the one that this home's agent must meet. */
import { existsSync } from "node:fs";
import { connectPinned } from "../../adapters/tls-identity/pinned-connect.ts";
import { keptTlsIdentity } from "../../adapters/tls-identity/tls-identity.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { HomeFolder } from "../home/home-folder.ts";
import { readJoinedGrid } from "../home/joined-grid.ts";
import { type Check, fine, problem, skipped } from "./check.ts";

const CONNECT_MS_MAX = 5_000;

export async function checkCertificate(home: HomeFolder): Promise<readonly Check[]> {
  const checks = [await ownCertificate(home), await joinedCertificate(home)].filter((check) => check !== null);
  return checks.length > 0 ? checks : [skipped("certificate", "this home uses none: everything stays on this machine")];
}

async function ownCertificate(home: HomeFolder): Promise<Check | null> {
  if (!existsSync(home.at("tls", "identity.pem"))) return null;
  try {
    const { certificateSha256 } = await keptTlsIdentity(home.at("tls"));
    return fine("certificate", `the grid's own, SHA-256 ${certificateSha256}`);
  } catch (thrown) {
    return problem("certificate", describeFault(thrown), `restore ${home.at("tls", "identity.pem")} from a backup`);
  }
}

/** Meets the grid that this home's agent joined, and compares its certificate with the one of the join code. */
async function joinedCertificate(home: HomeFolder): Promise<Check | null> {
  const grid = readJoinedGrid(home);
  const [url] = grid?.urls ?? [];
  if (grid === null || url === undefined) return null;
  try {
    const target = { url, certificateSha256: grid.certificateSha256 };
    const { socket, channelBinding } = await connectPinned(target, AbortSignal.timeout(CONNECT_MS_MAX));
    socket.destroy();
    const how = channelBinding === "loopback" ? "on this machine, without TLS" : `SHA-256 ${channelBinding}`;
    return fine("joined grid", `${url} is the one that was joined (${how})`);
  } catch (thrown) {
    if (!(thrown instanceof FallowError)) throw thrown;
    const fix =
      thrown.code === "link-fingerprint-mismatch"
        ? "ask the grid's operator for a new join code"
        : "check that the grid runs and that its address can be reached from here";
    return problem("joined grid", describeFault(thrown), fix);
  }
}
