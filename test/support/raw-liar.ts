/**
 * A node whose program is not ours: a real TLS socket with a key of the grid, and frames written by hand. It lets everybody in, and answers each
 * ask as it likes.
 */
import { readFile } from "node:fs/promises";
import { openTcpCarrier } from "../../src/adapters/peer-tcp/tcp-carrier.ts";
import type { NodeId } from "../../src/domain/ids.ts";
import { CHUNK_BYTES_DEFAULT } from "../../src/domain/weights.ts";
import type { PeerConnection } from "../../src/ports/peer-carrier.ts";
import { decodeChunkRequest } from "../../src/wire/chunk-request.ts";
import { PeerFrameReader } from "../../src/wire/peer-frame-reader.ts";
import {
  type PeerFrame,
  SESSION_ID_BYTES,
  SESSION_SECRET_BYTES,
  writeDataHead,
  writeFrame,
} from "../../src/wire/peer-frames.ts";
import type { SwarmGrid, SwarmModel } from "./swarm-grid.ts";

export interface RawAsk {
  readonly stream: number;
  readonly offset: number;
  /** What was asked for, as it is. */
  readonly right: Uint8Array;
  /** Frames as they are. */
  write(bytes: Uint8Array): boolean;
  data(part: { stream: number; offset: number; bytes: Uint8Array }): void;
  isCut(): boolean;
}

export interface RawLiar {
  readonly nodeId: NodeId;
  asked(): number;
  close(): Promise<void>;
}

export async function rawLiar(
  grid: SwarmGrid,
  { model, path }: { model: SwarmModel; path: string },
  lie: (ask: RawAsk) => void,
): Promise<RawLiar> {
  const keyPair = grid.crypto.generateKeyPair();
  const tcp = await openTcpCarrier({ keyPair, host: "127.0.0.1", port: 0 });
  const content = await readFile(path);
  let asked = 0;
  tcp.onConnection((connection) => {
    let isCut = false;
    const reader = new PeerFrameReader(() => true);
    const onFrame = (frame: PeerFrame): boolean => {
      if (frame.kind === "ask") {
        asked += 1;
        lie({ ...askOf(frame, content), ...writing(connection), isCut: () => isCut });
      } else greet(connection, frame);
      return !isCut;
    };
    connection.listen({
      onBytes: (bytes) => void reader.push(bytes, onFrame),
      onDrain: () => undefined,
      onClose: () => {
        isCut = true;
      },
    });
  });
  const nodeId = await grid.claimant(model, { keyPair, tcp });
  return { nodeId, asked: () => asked, close: () => tcp.close() };
}

function askOf(
  ask: Extract<PeerFrame, { kind: "ask" }>,
  content: Uint8Array,
): Pick<RawAsk, "stream" | "offset" | "right"> {
  const { stream, offset, length } = ask;
  const { chunk = 0, part = null } = decodeChunkRequest(ask.request) ?? {};
  const at = chunk * CHUNK_BYTES_DEFAULT + (part?.offset ?? 0) + offset;
  return { stream, offset, right: content.subarray(at, at + length) };
}

function writing(connection: PeerConnection): Pick<RawAsk, "write" | "data"> {
  return {
    write: (bytes) => connection.write(bytes),
    data: ({ stream, offset, bytes }) => {
      connection.write(writeDataHead({ stream, offset, length: bytes.length }));
      connection.write(Uint8Array.from(bytes));
    },
  };
}

function greet(connection: PeerConnection, frame: PeerFrame): void {
  const sessionId = new Uint8Array(SESSION_ID_BYTES).fill(7);
  const secret = new Uint8Array(SESSION_SECRET_BYTES).fill(9);
  if (frame.kind === "hello") connection.write(writeFrame({ kind: "accepted", sessionId, secret }));
  if (frame.kind === "attach") connection.write(writeFrame({ kind: "attached" }));
  if (frame.kind === "ping") connection.write(writeFrame({ kind: "pong", id: frame.id }));
  if (frame.kind === "present") connection.write(writeFrame({ kind: "presented", id: frame.id }));
}
