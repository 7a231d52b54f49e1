/**
 * A process that writes money as fast as it can and says on standard output what was acknowledged: `held N`, `settled N`, or
 * `failed CODE` at the first fault. It is there to be killed. Arguments: `sqlite PATH FIRST` or `postgres URL FIRST`.
 */
import { writeSync } from "node:fs";
import { openPostgresStore } from "../../src/adapters/store-sql/sql-store.ts";
import { openThreadedSqliteStore } from "../../src/adapters/store-sql/sqlite-thread.ts";
import { FallowError } from "../../src/domain/fault.ts";
import { settlementFor } from "./store-samples.ts";

const [kind, place, firstText] = process.argv.slice(2);
if (place === undefined || firstText === undefined) throw new Error("store-writer KIND PLACE FIRST");
const store =
  kind === "sqlite"
    ? await openThreadedSqliteStore({ path: place, nowMs: 1 })
    : await openPostgresStore({ url: place, nowMs: 1 });
/** Written at once and by the process itself: what is said was acknowledged before. */
const say = (line: string) => writeSync(1, `${line}\n`);
const WRITERS = 8;
let next = Number(firstText);

async function write(): Promise<void> {
  for (;;) {
    const request = next++;
    const settlement = settlementFor(request, { costMicroUsd: 100 });
    const held = await store.ledger.apply(settlement.hold);
    if (!held.ok) throw new Error(`the hold was refused: ${held.reason.code}`);
    say(`held ${request}`);
    const settled = await store.receipts.settle(settlement);
    if (!settled.ok) throw new Error(`the settlement was refused: ${settled.reason.code}`);
    say(`settled ${request}`);
  }
}

try {
  await Promise.all(Array.from({ length: WRITERS }, write));
} catch (cause) {
  say(`failed ${cause instanceof FallowError ? cause.code : String(cause)}`);
  process.exit(3);
}
