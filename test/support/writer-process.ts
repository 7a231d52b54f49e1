/** Starts store-writer.ts, collects what it acknowledged, kills it; and looks at what a store holds afterwards. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { microUsd } from "../../src/domain/money.ts";
import type { Store } from "../../src/ports/store.ts";
import { sums } from "./store-contract-ledger.ts";
import { anApiKey, aTenant, credit, madeId } from "./store-samples.ts";

export interface Acknowledged {
  readonly held: Set<number>;
  readonly settled: Set<number>;
  readonly failures: readonly string[];
}

/** Tenant, key and money for the writer. */
export async function foundBooks(store: Store): Promise<void> {
  await store.tenants.create(aTenant(1));
  await store.keys.create(anApiKey(1));
  await store.ledger.apply([credit(aTenant(1).tenantId, 10 ** 12)]);
}

/** Runs a writer until it has acknowledged `lines`, then kills it with SIGKILL. Resolves when it is dead. */
export async function killedWriter(options: { arguments: readonly string[]; lines: number }): Promise<Acknowledged> {
  const child = startWriter(process.execPath, [writerPath(), ...options.arguments]);
  return collected(child, (lines) => {
    if (lines >= options.lines) child.kill("SIGKILL");
  });
}

/** Runs a writer under a shell command's limits until it fails by itself. */
export function limitedWriter(shellLimits: string, writerArguments: readonly string[]): Promise<Acknowledged> {
  const script = `${shellLimits}; exec "$0" "$@"`;
  return collected(
    startWriter("bash", ["-c", script, process.execPath, writerPath(), ...writerArguments]),
    () => undefined,
  );
}

function writerPath(): string {
  return fileURLToPath(new URL("./store-writer.ts", import.meta.url));
}

function startWriter(program: string, programArguments: readonly string[]): ChildProcess {
  return spawn(program, programArguments, { stdio: ["ignore", "pipe", "inherit"] });
}

async function collected(child: ChildProcess, onLines: (count: number) => void): Promise<Acknowledged> {
  const lines: string[] = [];
  let rest = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    lines.push(...parts);
    onLines(lines.length);
  });
  await once(child, "close");
  const numbers = (word: string) =>
    new Set(lines.filter((line) => line.startsWith(`${word} `)).map((line) => Number(line.split(" ")[1])));
  const failures = lines.filter((line) => line.startsWith("failed ")).map((line) => line.slice("failed ".length));
  return { held: numbers("held"), settled: numbers("settled"), failures };
}

/** Nothing acknowledged is lost, nothing is half there, and the sums are zero. Resolves with how many receipts there are. */
export async function expectNothingLost(store: Store, acknowledged: readonly Acknowledged[]): Promise<number> {
  const receipts = await store.receipts.list({ limit: 1_000_000 });
  const settled = new Set(receipts.map((receipt) => receipt.requestId));
  const open = new Set((await store.ledger.openHolds()).map((hold) => hold.requestId));
  for (const one of acknowledged) {
    for (const request of one.settled) expect(settled).toContain(madeId("req", request));
    for (const request of one.held) {
      const id = madeId("req", request);
      expect([id, open.has(id) !== settled.has(id)]).toEqual([id, true]);
    }
  }
  const accounts = await store.ledger.accounts();
  expect(sums(accounts)).toEqual({ posted: 0, pending: 0 });
  const charged = receipts.length * 100;
  const escrow = accounts.find((account) => account.accountId === "escrow");
  expect([escrow?.creditsPosted ?? 0, escrow?.debitsPosted ?? 0]).toEqual([charged, charged]);
  expect(escrow?.creditsPending ?? 0).toBe(open.size * 200);
  expect(await store.keys.spent(anApiKey(1).keyId)).toBe(microUsd(charged));
  const { keyId, tenantId } = anApiKey(1);
  expect((await store.spending.ofKey(keyId, "1970-01")).totalMicroUsd).toBe(microUsd(charged));
  expect((await store.spending.ofTenant(tenantId, "1970-01")).totalMicroUsd).toBe(microUsd(charged));
  expect(await store.receipts.leafCount()).toBe(receipts.length);
  const leaves = await store.receipts.leaves({ from: 0, to: receipts.length });
  expect(leaves).toEqual(receipts.toReversed().map((receipt) => receipt.leafSha256));
  const charges = (await store.ledger.transfers({ limit: 1_000_000 })).filter(
    (transfer) => transfer.reason === "charge",
  );
  expect(new Set(charges.map((transfer) => transfer.requestId))).toEqual(settled);
  expect(charges.length).toBe(settled.size);
  return receipts.length;
}
