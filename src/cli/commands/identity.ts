/**
 * `fallow identity`: the key that is a node's identity for good. It lies in the agent's home: the `agent` folder of a grid's home
 * when `fallow up` runs the agent, else the home itself.
 */
import { existsSync, readFileSync } from "node:fs";
import { NodeCrypto } from "../../adapters/crypto-node/node-crypto.ts";
import {
  exportNodeIdentity,
  keptNodeIdentity,
  restoreNodeIdentity,
} from "../../adapters/node-identity/node-identity.ts";
import { nodeIdOf } from "../../domain/node-id.ts";
import type { KeyPair } from "../../ports/crypto.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { type HomeFolder, homeFolder, openHome, writeFileSafely } from "../home/home-folder.ts";
import { note, printJson, printLine } from "../terminal.ts";

const KEY_FILE = "node.key";

export interface IdentityOptions {
  readonly home?: string;
  readonly json?: boolean;
}

export async function exportIdentity(file: string | null, options: IdentityOptions): Promise<void> {
  const folder = agentFolder(homeFolder(options.home));
  if (!existsSync(`${folder}/${KEY_FILE}`)) {
    throw new CliError(`there is no node identity in ${folder}`, {
      code: "not-found",
      exitCode: EXIT.refused,
      fix: "run `fallow up` or `fallow join` in this home first, or name another with --home",
    });
  }
  const crypto = new NodeCrypto();
  const keyPair = await keptNodeIdentity(folder, crypto);
  const secret = exportNodeIdentity(keyPair);
  const nodeId = idOf(keyPair, crypto);
  if (file !== null) writeFileSafely(file, `${secret}\n`);
  if (options.json === true) return printJson(file === null ? { nodeId, identity: secret } : { nodeId, file });
  note(`${nodeId}: whoever has this text is the node; keep it secret`);
  if (file === null) printLine(secret);
}

export async function restoreIdentity(file: string, options: IdentityOptions): Promise<void> {
  const folder = agentFolder(openHome(options.home));
  const crypto = new NodeCrypto();
  const keyPair = await restoreNodeIdentity(folder, readFileSync(file, "utf8"), crypto);
  const nodeId = idOf(keyPair, crypto);
  if (options.json === true) return printJson({ nodeId });
  note(`this home's agent is ${nodeId}`);
}

function idOf(keyPair: KeyPair, crypto: NodeCrypto): string {
  return nodeIdOf(crypto.sha256(keyPair.publicKey));
}

function agentFolder(home: HomeFolder): string {
  return existsSync(home.at("home.json")) ? home.at("agent") : home.path;
}
