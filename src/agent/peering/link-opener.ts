/**
 * The end of a link that opens it. All carriers start one after the other and the first that answers begins the session; whatever answers
 * later, and better, joins it. From then on it keeps the connections that the plan wants (dial-plan.ts).
 */
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { CarrierKind, PeerTarget } from "../../domain/peer.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import type { PeerCarrier, PeerConnection } from "../../ports/peer-carrier.ts";
import { FAR_RTT_MS } from "../../scheduler/network/choose-carrier.ts";
import type { ConnectionRole } from "../../wire/peer-frame-bytes.ts";
import { PEER_PROTOCOL_VERSION } from "../../wire/peer-frames.ts";
import { WIDTH_START, widen } from "./bulk-width.ts";
import { CarrierChooser, CarrierWatch } from "./carrier-watch.ts";
import { type CarrierLook, type Dial, planDials } from "./dial-plan.ts";
import { greet } from "./greet.ts";
import { CARRIER_STAGGER_MS, PROBE_MS } from "./link-bounds.ts";
import { LinkConnection } from "./link-connection.ts";
import { isLossy } from "./link-state.ts";
import type { KeeperLook, LinkKeeper, SessionLink } from "./session-link.ts";

export interface OpenerParts {
  readonly clock: Clock;
  readonly log: Log;
  /** In the order in which they are tried. */
  readonly carriers: readonly PeerCarrier[];
  readonly target: PeerTarget;
  begin(session: { readonly id: Uint8Array; readonly secret: Uint8Array }): SessionLink;
}

/** Between two looks at whether more connections pay, and round trips that it lasts at least. */
const WIDTH_LOOK_MS = 500;
const WIDTH_LOOK_ROUND_TRIPS = 5;

export class LinkOpener implements LinkKeeper {
  readonly #parts: OpenerParts;
  readonly #life = new AbortController();
  readonly #watches: readonly CarrierWatch[];
  readonly #chooser = new CarrierChooser();
  #target: PeerTarget;
  #width = WIDTH_START;
  #widthLookAtMs = 0;
  #wasConnectionBound = 0;
  #wasBulkWanted = false;
  #looks = 0;
  #cutAtMs: number | null = null;
  #busySinceMs: number | null = null;
  #nextNumber = 1;

  constructor(parts: OpenerParts) {
    this.#parts = parts;
    this.#target = parts.target;
    this.#watches = parts.carriers.map((carrier) => new CarrierWatch(carrier));
  }

  /** What the coordinator says of the node now. */
  retarget(target: PeerTarget): void {
    this.#target = target;
  }

  stop(): void {
    this.#life.abort(new Error("the link ended"));
  }

  /** Rejects as `PeerNetwork.connect` does; nothing is left open then. */
  async open(credential: string, signal: AbortSignal): Promise<SessionLink> {
    const onAbort = () => this.#life.abort(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      return await this.#race(credential);
    } catch (fault) {
      this.stop();
      throw fault;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  // ---------------------------------------------------------------- the first connection

  #race(credential: string): Promise<SessionLink> {
    const watches = this.#usable();
    const faults: unknown[] = [];
    return new Promise((resolve, reject) => {
      let link: SessionLink | null = null;
      let isGreeting = false;
      let next = 0;
      let running = 0;
      let timer: Timer | null = null;
      const early: { readonly watch: CarrierWatch; readonly connection: LinkConnection }[] = [];
      const giveUp = () => {
        if (running > 0 || next < watches.length || early.length > 0 || isGreeting || link !== null) return;
        reject(this.#failure(faults));
      };
      const hello = (connection: LinkConnection) => {
        isGreeting = true;
        const frame = { kind: "hello", version: PEER_PROTOCOL_VERSION, role: "message", credential } as const;
        greet(connection, this.#parts.clock, frame, (answer) => {
          if (answer.kind !== "accepted") return;
          // What the reader holds is its own: the session outlives the frame.
          link = this.#parts.begin({ id: Uint8Array.from(answer.sessionId), secret: Uint8Array.from(answer.secret) });
          link.adopt(connection);
          for (const one of early.splice(0)) this.#late(link, one.watch, one.connection);
          resolve(link);
        }).catch((fault: unknown) => {
          isGreeting = false;
          faults.push(fault);
          if (codeOf(fault) === "peer-refused") return reject(fault);
          const other = early.shift();
          if (other !== undefined) hello(other.connection);
          else startNext();
        });
      };
      const startNext = () => {
        timer?.cancel();
        const watch = watches[next];
        if (watch === undefined || link !== null || this.#life.signal.aborted) return giveUp();
        next++;
        running++;
        timer = this.#parts.clock.setTimer(CARRIER_STAGGER_MS, startNext);
        this.#dialCarrier(watch).then(
          (dialled) => {
            running--;
            const connection = new LinkConnection(dialled, this.#parts.clock);
            if (link !== null) this.#late(link, watch, connection);
            else if (isGreeting) early.push({ watch, connection });
            else hello(connection);
          },
          (fault: unknown) => {
            running--;
            watch.onFailed(this.#parts.clock.monoMs());
            faults.push(fault);
            if (link === null) startNext();
          },
        );
      };
      this.#life.signal.addEventListener("abort", () => {
        timer?.cancel();
        for (const { connection } of early.splice(0)) connection.destroy();
        if (link === null) reject(this.#failure([...faults, this.#life.signal.reason]));
      });
      startNext();
    });
  }

  #failure(faults: readonly unknown[]): FallowError {
    const named = faults.find((fault) => codeOf(fault) === "peer-identity-mismatch");
    if (named instanceof FallowError) return named;
    const why = faults.length === 0 ? "no carrier leads there" : faults.map(describeFault).join("; ");
    const { nodeId, publicKeyHex } = this.#target;
    return new FallowError("peer-unreachable", `${nodeId} cannot be reached: ${why}`, {
      data: { nodeId, publicKeyHex },
    });
  }

  /** A carrier answered when the session had begun over another. */
  #late(link: SessionLink, watch: CarrierWatch, connection: LinkConnection): void {
    const current = link.carrier();
    const isBetter = current === null || this.#rank(watch.carrier.kind) < this.#rank(current);
    // A worse one says how it is, and stands by.
    const role = isBetter ? "message" : "spare";
    this.#attach(link, watch, { connection, role }).catch(() => connection.destroy());
  }

  // ---------------------------------------------------------------- further connections

  keep(link: SessionLink, look: KeeperLook): void {
    if (this.#life.signal.aborted) return;
    const { nowMs } = look;
    const [way] = [...link.connections].filter(({ role, isSuspect }) => role === "message" && !isSuspect);
    this.#cutAtMs = way !== undefined ? null : (this.#cutAtMs ?? nowMs);
    this.#busySinceMs = look.isBusy ? (this.#busySinceMs ?? nowMs) : null;
    const rttMs = way?.baseRttMs() ?? null;
    const lossShare = link.lossShare();
    this.#lookAtWidth(look, { rttMs, lossShare });
    const usable = this.#usable();
    const carriers = usable.map((watch) => lookAt(watch, link, look));
    const choices = this.#chooser.choose(
      usable.map((watch) => watch.state(true)),
      nowMs,
    );
    const plan = planDials({
      nowMs,
      cutAtMs: this.#cutAtMs,
      busySinceMs: this.#busySinceMs,
      isBulkWanted: look.isBulkWanted,
      isLossy: isLossy(lossShare),
      rttMs,
      width: this.#width.count,
      choices,
      carriers,
    });
    for (const dial of plan.dials) this.#dial(link, dial);
    for (const { kind, role, count } of plan.ends) endSome(link, { kind, role }, count);
  }

  #lookAtWidth(
    { nowMs, isBulkWanted, isConnectionBound, bytesPerSecond }: KeeperLook,
    way: { readonly rttMs: number | null; readonly lossShare: number | null },
  ): void {
    const { rttMs } = way;
    this.#looks++;
    if (isConnectionBound) this.#wasConnectionBound++;
    const isFirst = isBulkWanted && !this.#wasBulkWanted;
    this.#wasBulkWanted = isBulkWanted;
    if (!isFirst && nowMs - this.#widthLookAtMs < Math.max(WIDTH_LOOK_MS, WIDTH_LOOK_ROUND_TRIPS * (rttMs ?? 0)))
      return;
    const isBound = this.#wasConnectionBound * 2 > this.#looks;
    this.#width = widen(this.#width, {
      bytesPerSecond,
      isBusy: isBulkWanted,
      isConnectionBound: isBound,
      isFar: (rttMs ?? 0) > FAR_RTT_MS,
      ...way,
    });
    this.#widthLookAtMs = nowMs;
    this.#wasConnectionBound = 0;
    this.#looks = 0;
  }

  #dial(link: SessionLink, { kind, role }: Dial): void {
    const watch = this.#watches.find(({ carrier }) => carrier.kind === kind);
    if (watch === undefined) return;
    watch.dialled[role]++;
    this.#dialCarrier(watch)
      .then((dialled) =>
        this.#attach(link, watch, { connection: new LinkConnection(dialled, this.#parts.clock), role }),
      )
      .catch((fault: unknown) => this.#onDialFailed(link, watch, fault))
      .finally(() => {
        watch.dialled[role]--;
      });
  }

  #onDialFailed(link: SessionLink, watch: CarrierWatch, fault: unknown): void {
    watch.onFailed(this.#parts.clock.monoMs());
    const { kind } = watch.carrier;
    this.#parts.log.debug(
      { peerKeyHex: link.peerKeyHex, carrier: kind, fault: describeFault(fault) },
      "a carrier did not open",
    );
    // Any other refusal, for want of room, may end.
    if (fault instanceof FallowError && fault.code === "peer-refused" && fault.data?.["code"] === "not-found")
      link.end(`the other node no longer knows the session: ${describeFault(fault)}`, { isPolite: false });
  }

  async #attach(
    link: SessionLink,
    watch: CarrierWatch,
    { connection, role }: { readonly connection: LinkConnection; readonly role: ConnectionRole },
  ): Promise<void> {
    if (link.isEnded) return connection.destroy();
    const number = this.#nextNumber++;
    const { sessionId, secret } = link;
    const frame = { kind: "attach", version: PEER_PROTOCOL_VERSION, role, number, sessionId, secret } as const;
    await greet(connection, this.#parts.clock, frame, () => link.adopt(connection));
    watch.onOpened(this.#parts.clock.monoMs());
  }

  async #dialCarrier({ carrier }: CarrierWatch): Promise<PeerConnection> {
    const connection = await carrier.dial(this.#target, this.#life.signal);
    if (connection.peerKeyHex === this.#target.publicKeyHex && !this.#life.signal.aborted) return connection;
    connection.destroy();
    throw new FallowError(
      "peer-identity-mismatch",
      `${carrier.kind} led to the key ${connection.peerKeyHex}, not ${this.#target.publicKeyHex}`,
    );
  }

  #usable(): readonly CarrierWatch[] {
    const { endpoints } = this.#target;
    return this.#watches.filter(({ carrier }) => {
      if (carrier.kind === "tcp") return endpoints.tcp.length > 0;
      return carrier.kind === "udp" ? endpoints.hasUdp : true;
    });
  }

  #rank(kind: CarrierKind): number {
    return this.#watches.findIndex(({ carrier }) => carrier.kind === kind);
  }
}

/** Takes in what was measured since the last look, and says what there is. */
function lookAt(watch: CarrierWatch, link: SessionLink, look: KeeperLook): CarrierLook {
  const { kind, dialled, retryAtMs } = watch;
  const { nowMs, isBulkWanted, movedBytes } = look;
  const own = [...link.connections].filter(({ carrier, isClosing }) => carrier === kind && !isClosing);
  const live = own.filter(({ isSuspect }) => !isSuspect);
  const hasSilent = live.length < own.length;
  watch.look(live, { nowMs, moved: movedBytes[kind], isBulkWanted, hasSilent });
  const count = (wanted: ConnectionRole): number => live.filter(({ role }) => role === wanted).length;
  return {
    kind,
    live: { message: count("message"), bulk: count("bulk"), spare: count("spare") },
    dialled,
    hasSilent,
    hasFailed: watch.state(true).reach === "failed",
    retryAtMs,
    isMeasured: live.some(({ role, openedAtMs }) => role === "spare" && nowMs - openedAtMs > PROBE_MS),
  };
}

function endSome(link: SessionLink, { kind, role }: Dial, count: number): void {
  const ending = [...link.connections]
    .filter((one) => one.carrier === kind && one.role === role && !one.isClosing)
    .slice(-count);
  for (const connection of ending) connection.close();
}

function codeOf(fault: unknown): string | null {
  return fault instanceof FallowError ? fault.code : null;
}
