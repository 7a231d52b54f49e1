/**
 * Money of a request from its hold to its receipt, and of a node's share from held to payable.
 *
 * | request's state | hold              | settle                         | voidHold             | process dies          |
 * | --------------- | ----------------- | ------------------------------ | -------------------- | --------------------- |
 * | (none)          | held, or refused  | settled (a free request)       | ignored              | -                     |
 * | held            | bug               | settled: charge, receipt, leaf | none, all given back | none: voided at start |
 * | held, waits     | bug               | as held, in one group with it  | none, nothing written | none                 |
 * | settled         | bug               | the same receipt again         | ignored              | settled               |
 *
 * A charge and its receipt are one transaction of the store. When the store fails in the middle, the caller gets the fault
 * and voids; should the charge have reached the disk all the same, the void meets a resolved hold and changes nothing.
 */

import { assert } from "../../domain/assert.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { KeyId, ReceiptId, RequestId, TenantId } from "../../domain/ids.ts";
import type { LedgerOutcome, LedgerRefusal } from "../../domain/ledger.ts";
import { formatUsd, type MicroUsd, ZERO_USD } from "../../domain/money.ts";
import type { SignedReceipt } from "../../domain/receipt.ts";
import { type Outcome, ok, type Refusal, refuse } from "../../domain/refusal.ts";
import { auditLedger, type LedgerAudit } from "../../market/audit-ledger.ts";
import { toHex } from "../../market/hex.ts";
import { holdTransfer, voidTransfer } from "../../market/hold.ts";
import { receiptBytes } from "../../market/receipt.ts";
import { AUDIT_WINDOW_MS, releaseTransfer } from "../../market/release.ts";
import { type Clock, pause, type Timer } from "../../ports/clock.ts";
import type { Crypto, KeyPair } from "../../ports/crypto.ts";
import type { Ids } from "../../ports/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { SettlementOutcome, Store, Settlement as StoredSettlement } from "../../ports/store.ts";
import { receiptBodySchema } from "../../wire/receipt.ts";
import { buildSettlement, type SettleRequest } from "./build-settlement.ts";
import { ReceiptLog } from "./receipt-log.ts";
import { type CapView, NO_CAPS, type SpendingCaps, type SpendingClaim, SpendingDesk } from "./spending-desk.ts";

export interface SettlementOptions {
  readonly gridId: string;
  /** How long a node's share stays held; default `AUDIT_WINDOW_MS`. */
  readonly auditWindowMs?: number;
}

export interface SettlementPorts {
  readonly store: Store;
  readonly crypto: Crypto;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  /** The grid's identity: signs receipts and the log's head. */
  readonly keyPair: KeyPair;
}

export interface HoldRequest {
  readonly requestId: RequestId;
  readonly tenantId: TenantId;
  readonly keyId: KeyId;
  /** What the key may spend in all; null: what the tenant's balance allows. */
  readonly budgetMicroUsd: MicroUsd | null;
  /** Caps beside that of the key in all; absent: none. */
  readonly caps?: Omit<SpendingCaps, "keyMicroUsd">;
  readonly amountMicroUsd: MicroUsd;
  readonly atMs: number;
  /** The balance covers it for sure and nothing waits for it: it may go to the disk a little later, together with its settlement. */
  readonly mayWait?: boolean;
  /** Of a request that is run again after an earlier hold of it was voided: another name for each, of letters, digits and dots. */
  readonly run?: string;
}

interface OpenHold {
  readonly request: HoldRequest;
  /** A void that the store could not take yet; the next tick tries again. */
  isVoidDue: boolean;
  /** Of one that waits: it goes to the disk, or is dropped before it did. Null once either happened. */
  late: { write(): void; drop(): void } | null;
  /** What kept it from the disk, when it was tried. */
  fault: FallowError | null;
}

/** How often held shares are released and failed voids tried again. */
const TICK_MS = 60_000;
/** Until a hold that may wait is written: an answer that is there by then costs one wait for the disk instead of two. */
export const LATE_HOLD_MS = 25;
/** A database that restarts is back within a second or not soon; the client waits for its last byte meanwhile. */
const SETTLE_TRIES_MAX = 3;
const SETTLE_RETRY_MS = 200;
/** Shares released in one transaction. */
const RELEASES_PER_BATCH = 200;
/** The books are read in several steps; when a settlement falls between them they are read again. */
const CHECK_TRIES_MAX = 20;

export class Settlement {
  readonly log: ReceiptLog;
  readonly #options: Required<SettlementOptions>;
  readonly #ports: SettlementPorts;
  readonly #spending: SpendingDesk;
  readonly #holds = new Map<RequestId, OpenHold>();
  /** Those that wait. */
  readonly #late = new Set<OpenHold>();
  #timer: Timer | null = null;
  #isStopped = false;

  constructor(options: SettlementOptions, ports: SettlementPorts) {
    this.#options = { auditWindowMs: AUDIT_WINDOW_MS, ...options };
    this.#ports = ports;
    this.#spending = new SpendingDesk(ports.store.spending);
    this.log = new ReceiptLog(
      { gridId: options.gridId, gridKey: ports.keyPair },
      { receipts: ports.store.receipts, crypto: ports.crypto },
    );
  }

  /** Voids what an earlier life left held, reads the log, and begins to release shares. Before any other call. */
  async start(): Promise<{ readonly voidedHolds: number; readonly receipts: number }> {
    const { store, clock } = this.#ports;
    const leftOver = await store.ledger.openHolds();
    await Promise.all(leftOver.map((hold) => store.ledger.apply([voidTransfer(hold, wallMs(clock))])));
    await this.log.catchUp();
    this.#schedule();
    return { voidedHolds: leftOver.length, receipts: this.log.size };
  }

  /** Ends the periodic work; what was asked for goes on. May be called twice. */
  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  /** Refuses `insufficient-funds` and `budget-exceeded`. A free request is held as zero, which touches no account. */
  async hold(request: HoldRequest): Promise<Outcome<void>> {
    assert(!this.#holds.has(request.requestId), `${request.requestId} is held once`);
    const hold: OpenHold = { request, isVoidDue: false, late: null, fault: null };
    this.#holds.set(request.requestId, hold);
    const late = request.mayWait === true && request.amountMicroUsd > 0 ? this.#writtenLate(hold) : null;
    // What the balance was promised to comes before this one.
    if (late === null) for (const before of this.#late) before.late?.write();
    const overBudget = await this.#reserve(request);
    if (overBudget !== null) {
      this.#holds.delete(request.requestId);
      hold.late?.drop();
      return { ok: false, reason: overBudget };
    }
    if (request.amountMicroUsd === 0) return ok(undefined);
    try {
      const applied = await (late ?? this.#ports.store.ledger.apply([holdTransfer(request)]));
      if (applied === null || applied.ok) return ok(undefined);
      this.#forget(request.requestId, ZERO_USD);
      return { ok: false, reason: tooLittle(applied.reason) };
    } catch (cause) {
      // Whether it reached the disk is unknown: the next tick voids it if it did.
      this.#dueVoid(request.requestId);
      hold.fault = cause instanceof FallowError ? cause : null;
      throw cause;
    }
  }

  /** Charges for what was delivered, writes the receipt and its leaf; the rest of the hold is restored. */
  async settle(request: SettleRequest): Promise<{ readonly receiptId: ReceiptId; readonly costMicroUsd: MicroUsd }> {
    const { store, log } = this.#ports;
    const hold = this.#holds.get(request.requestId);
    const { amountMicroUsd: held = ZERO_USD, run } = hold?.request ?? {};
    if (held === 0 && (await store.receipts.byRequest(request.requestId)) !== null) {
      return this.#settledBefore(request.requestId);
    }
    const built = buildSettlement(request, { ...this.#ports, gridId: this.#options.gridId, heldMicroUsd: held, run });
    for (const problem of built.problems) log.warn({ requestId: request.requestId, problem }, "statement dropped");
    hold?.late?.write(); // one group with what follows
    const outcome = await this.#persist(built.settlement);
    if (!outcome.ok) {
      // Nothing was held because the store failed: that is what is wrong.
      if (hold !== undefined && hold.fault !== null) throw hold.fault;
      throw new FallowError(
        "settlement-refused",
        `the ledger refused the charge of ${request.requestId}: ${outcome.reason.code}`,
        {
          data: { requestId: request.requestId, reason: outcome.reason },
        },
      );
    }
    if (outcome.isReplay) return this.#settledBefore(request.requestId);
    const { receiptId, costMicroUsd } = built.settlement.receipt;
    this.#forget(request.requestId, costMicroUsd);
    return { receiptId, costMicroUsd };
  }

  /** Gives the hold back. Does nothing for a request that holds nothing; a store that fails is asked again later. */
  async voidHold(requestId: RequestId): Promise<void> {
    const hold = this.#holds.get(requestId);
    if (hold === undefined) return;
    if (hold.request.amountMicroUsd === 0 || hold.late !== null) {
      hold.late?.drop();
      return this.#forget(requestId, ZERO_USD);
    }
    try {
      const { clock, store } = this.#ports;
      const applied = await store.ledger.apply([voidTransfer(holdTransfer(hold.request), wallMs(clock))]);
      if (!applied.ok && applied.reason.code === "hold-already-resolved") await this.#settledBefore(requestId);
      else this.#forget(requestId, ZERO_USD);
    } catch (cause) {
      this.#dueVoid(requestId);
      this.#ports.log.warn({ requestId, cause: describeFault(cause) }, "void put off");
    }
  }

  /** The cap with the least left, of those that were asked about before; null when there is none. */
  budgetLeft(who: Pick<SpendingClaim, "keyId" | "tenantId" | "atMs">, caps: SpendingCaps): CapView | null {
    return this.#spending.tightest(who, caps);
  }

  /** The receipt with its signature and its proof of inclusion as of this moment; null when there is none. */
  async signedReceipt(receiptId: ReceiptId): Promise<SignedReceipt | null> {
    const { store, keyPair } = this.#ports;
    const record = await store.receipts.get(receiptId);
    if (record === null) return null;
    const body = receiptBodySchema.parse(JSON.parse(record.bodyJson));
    return {
      body,
      coordinatorPublicKey: this.publicKeyHex,
      coordinatorSignature: toHex(keyPair.sign(receiptBytes(body))),
      inclusion: await this.log.inclusion(record.leafIndex),
    };
  }

  /** Whose signature receipts and checkpoints carry. */
  get publicKeyHex(): string {
    return toHex(this.#ports.keyPair.publicKey);
  }

  /** The log's signed head, after reading what was written last. */
  async checkpoint(): Promise<string> {
    await this.log.catchUp();
    return this.log.checkpoint();
  }

  /** Audits the books as they are at one moment between two settlements. */
  async check(): Promise<LedgerAudit> {
    const { ledger, receipts } = this.#ports.store;
    for (let tries = 1; ; tries++) {
      const before = await ledger.accounts();
      const openHolds = await ledger.openHolds();
      const usage = await receipts.usage({ fromMs: 0, toMs: Number.MAX_SAFE_INTEGER });
      const receiptsMicroUsd = usage.reduce((sum, row) => sum + row.costMicroUsd, 0);
      const after = await ledger.accounts();
      const isStill = JSON.stringify(before) === JSON.stringify(after);
      if (isStill || tries >= CHECK_TRIES_MAX) return auditLedger({ accounts: after, openHolds, receiptsMicroUsd });
    }
  }

  /** Makes shares payable whose audit window has passed; resolves with how many. Runs by itself once a minute. */
  async releaseDue(): Promise<number> {
    const { store, clock } = this.#ports;
    let released = 0;
    for (;;) {
      const nowMs = wallMs(clock);
      const due = { beforeMs: nowMs - this.#options.auditWindowMs, limit: RELEASES_PER_BATCH };
      const shares = await store.ledger.heldShares(due);
      if (shares.length === 0) return released;
      const applied = await store.ledger.apply(shares.map((share) => releaseTransfer(share, nowMs)));
      assert(applied.ok, "a held share can be released");
      released += shares.length;
      if (shares.length < RELEASES_PER_BATCH) return released;
    }
  }

  /** Null when it was dropped. */
  #writtenLate(hold: OpenHold): Promise<LedgerOutcome | null> {
    const { clock, store } = this.#ports;
    return new Promise((resolve, reject) => {
      const over = () => {
        hold.late = null;
        this.#late.delete(hold);
        timer.cancel();
      };
      const write = () => {
        over();
        store.ledger.apply([holdTransfer(hold.request)]).then(resolve, reject);
      };
      const drop = () => {
        over();
        resolve(null);
      };
      const timer = clock.setTimer(LATE_HOLD_MS, write);
      hold.late = { write, drop };
      this.#late.add(hold);
    });
  }

  async #reserve(request: HoldRequest): Promise<Refusal | null> {
    return await this.#spending.reserve(request, capsOf(request));
  }

  /** Settling is idempotent, so a lost answer is asked for again: the tokens were delivered and deserve their receipt. */
  async #persist(settlement: StoredSettlement): Promise<SettlementOutcome> {
    const { store, clock, log } = this.#ports;
    for (let tries = 1; ; tries++) {
      try {
        return await store.receipts.settle(settlement);
      } catch (cause) {
        if (!(cause instanceof FallowError) || tries >= SETTLE_TRIES_MAX) throw cause;
        log.warn(
          { requestId: settlement.receipt.requestId, tries, cause: describeFault(cause) },
          "settlement tried again",
        );
        await pause(clock, SETTLE_RETRY_MS);
      }
    }
  }

  async #settledBefore(requestId: RequestId): Promise<{ receiptId: ReceiptId; costMicroUsd: MicroUsd }> {
    const record = await this.#ports.store.receipts.byRequest(requestId);
    assert(record !== null, `${requestId} was settled before and has a receipt`);
    this.#forget(requestId, record.costMicroUsd);
    return { receiptId: record.receiptId, costMicroUsd: record.costMicroUsd };
  }

  #forget(requestId: RequestId, settledMicroUsd: MicroUsd): void {
    const hold = this.#holds.get(requestId);
    if (hold === undefined) return;
    this.#holds.delete(requestId);
    this.#spending.end(requestId, settledMicroUsd);
  }

  #dueVoid(requestId: RequestId): void {
    const hold = this.#holds.get(requestId);
    if (hold !== undefined) hold.isVoidDue = true;
  }

  #schedule(): void {
    if (this.#isStopped) return;
    this.#timer = this.#ports.clock.setTimer(TICK_MS, () => {
      void this.#tick().finally(() => this.#schedule());
    });
  }

  /** Never rejects: what failed is due again at the next tick. */
  async #tick(): Promise<void> {
    const { log } = this.#ports;
    try {
      for (const [requestId, hold] of this.#holds) {
        if (hold.isVoidDue) await this.voidHold(requestId);
      }
      const released = await this.releaseDue();
      if (released > 0) log.info({ released }, "shares released");
    } catch (cause) {
      if (!(cause instanceof FallowError)) throw cause;
      log.warn({ cause: describeFault(cause) }, "release put off");
    }
  }
}

/** Without caps nothing is asked of the store. */
export function capsOf({ budgetMicroUsd, caps }: Pick<HoldRequest, "budgetMicroUsd" | "caps">): SpendingCaps {
  return { ...NO_CAPS, ...caps, keyMicroUsd: budgetMicroUsd };
}

function tooLittle(reason: LedgerRefusal): Refusal {
  assert(reason.code === "insufficient-funds", `a new hold is refused for want of money only, not ${reason.code}`);
  return refuse(
    "insufficient-funds",
    `this request may cost up to ${formatUsd(reason.neededMicroUsd)} USD; the balance has ${formatUsd(reason.availableMicroUsd)} USD available (running requests count with the most they can cost). Lower max_tokens, or add credit.`,
  ).reason;
}

function wallMs(clock: Clock): number {
  return Math.floor(clock.wallMs());
}
