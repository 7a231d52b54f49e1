/**
 * A node that lies over a real socket: the real agent with a real engine and key, and a liar between it and the wire. The
 * tokens it makes are right, so a text that differs from the undisturbed one shows a lie that got through.
 */
import { fileURLToPath } from "node:url";
import { SystemClock } from "../../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import { LlamaEngineHost } from "../../src/adapters/engine-llama/engine-host.ts";
import { WebSocketDialer } from "../../src/adapters/link-websocket/websocket-dialer.ts";
import { createAgent } from "../../src/agent/agent.ts";
import type { NodeId } from "../../src/domain/ids.ts";
import type { KeyPair } from "../../src/ports/crypto.ts";
import type { Link, LinkDialer } from "../../src/ports/link.ts";
import type { Log } from "../../src/ports/log.ts";
import { type AgentMessage, type AttemptEnd, agentMessageSchema, type Chunk } from "../../src/wire/agent-link.ts";
import { decodeJoinCode } from "../../src/wire/join-code.ts";

export const TINY_MODEL = fileURLToPath(new URL("../../models/tiny-q8_0.gguf", import.meta.url));
/** More than any honest node: of equally free replicas the liar's is chosen. */
const CLAIMED_TOK_PER_SECOND = 1_000_000;
const GIBIBYTE = 1024 ** 3;

export type WorkFrame = Extract<AgentMessage, { type: "attempt.chunks" | "attempt.end" }>;
/** What goes out instead of a frame of work; the frame itself, unparsed, comes first. */
export type Lie = (frame: string, message: WorkFrame) => readonly string[];

export interface LyingAgent extends AsyncDisposable {
  readonly nodeId: NodeId;
  readonly keyPair: KeyPair;
  /** Frames of work that went through the lie since it was set. */
  lies(): number;
  /** Null: honest. */
  tell(lie: Lie | null): void;
  /** From here on nothing leaves this node. */
  fallSilent(): void;
  /** Puts a frame on the wire as it is. */
  sendRaw(frame: string): void;
  readonly closes: readonly { readonly code: number; readonly reason: string }[];
  stop(): Promise<void>;
}

const SILENT_LOG: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => SILENT_LOG,
};

/** Resolves when the coordinator has let it in. */
export async function startLyingAgent(joinCode: string): Promise<LyingAgent> {
  const code = decodeJoinCode(joinCode);
  if (!code.ok) throw new Error(code.reason.message);
  const { urls, certificateSha256, token } = code.value;
  const crypto = new NodeCrypto();
  const keyPair = crypto.generateKeyPair();
  const wire = new LyingWire(new WebSocketDialer());
  const agent = createAgent(
    {
      clock: new SystemClock(),
      random: new SystemRandom(),
      crypto,
      log: SILENT_LOG,
      dialer: wire,
      engines: new LlamaEngineHost({
        variant: "cpu",
        libraryDirectory: null,
        selfTestModelPath: TINY_MODEL,
        environment: {},
      }),
      // The file that every model of these tests is registered from.
      weights: {
        ensure: () => Promise.resolve(TINY_MODEL),
        has: () => Promise.resolve(true),
        list: () => Promise.resolve([]),
        listPartial: () => Promise.resolve([]),
        remove: () => Promise.resolve(),
        freeBytes: () => Promise.resolve(null),
      },
    },
    {
      keyPair,
      target: { url: urls[0] ?? "", certificateSha256 },
      joinToken: token,
      name: "liar",
      agentVersion: "0.0.0-liar",
      capabilities: capabilities(),
      threads: 1,
    },
  );
  await agent.whenOnline(AbortSignal.timeout(20_000));
  return {
    nodeId: agent.nodeId,
    keyPair,
    lies: () => wire.told,
    tell: (lie) => {
      wire.lie = lie;
      wire.told = 0;
    },
    fallSilent: () => {
      wire.isSilent = true;
    },
    sendRaw: (frame) => wire.link?.send(frame),
    closes: wire.closes,
    stop: () => agent.stop(),
    [Symbol.asyncDispose]: () => agent.stop(),
  };
}

class LyingWire implements LinkDialer {
  readonly closes: { code: number; reason: string }[] = [];
  readonly #inner: LinkDialer;
  lie: Lie | null = null;
  told = 0;
  isSilent = false;
  link: Link | null = null;

  constructor(inner: LinkDialer) {
    this.#inner = inner;
  }

  async dial(...args: Parameters<LinkDialer["dial"]>): Promise<Link> {
    const inner = await this.#inner.dial(...args);
    this.link = inner;
    return {
      remote: inner.remote,
      channelBinding: inner.channelBinding,
      listen: (handlers) =>
        inner.listen({
          onFrame: (frame) => handlers.onFrame(frame),
          onClose: (code, reason) => {
            this.closes.push({ code, reason });
            handlers.onClose(code, reason);
          },
        }),
      send: (frame) => this.#send(inner, frame),
      bufferedBytes: () => inner.bufferedBytes(),
      close: (code, reason) => inner.close(code, reason),
      destroy: () => inner.destroy(),
    };
  }

  #send(inner: Link, frame: string): void {
    if (this.isSilent) return;
    const message = this.lie === null ? null : workIn(frame);
    const forged = this.lie === null || message === null ? null : this.lie(frame, message);
    if (forged !== null) this.told += 1;
    for (const out of forged ?? [frame]) inner.send(out);
  }
}

function workIn(frame: string): WorkFrame | null {
  if (!frame.includes('"attempt.')) return null;
  const parsed = agentMessageSchema.safeParse(JSON.parse(frame));
  if (!parsed.success) return null;
  const { data } = parsed;
  return data.type === "attempt.chunks" || data.type === "attempt.end" ? data : null;
}

export function chunkFrame(chunk: Chunk): string {
  return JSON.stringify({ type: "attempt.chunks", chunks: [chunk] } satisfies AgentMessage);
}

export function endFrame(end: AttemptEnd): string {
  return JSON.stringify(end);
}

function capabilities() {
  return {
    platform: `${process.platform}-${process.arch}`,
    cpuModel: "a liar's",
    cpuCores: 64,
    memoryBytes: 64 * GIBIBYTE,
    diskFreeBytes: 64 * GIBIBYTE,
    devices: [
      {
        deviceId: "cpu",
        kind: "cpu",
        variant: "cpu",
        name: "a liar's",
        memoryBytes: 64 * GIBIBYTE,
        memoryFreeBytes: 64 * GIBIBYTE,
        reserveBytes: 0,
      },
    ],
    engineVariant: "cpu",
    engineVersion: "0.0.0",
    referenceSpeed: {
      prefillTokPerSecond: CLAIMED_TOK_PER_SECOND,
      decodeTokPerSecond: CLAIMED_TOK_PER_SECOND,
      measuredAtMs: 0,
    },
  } as const;
}
