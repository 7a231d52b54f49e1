/**
 * What Linux measured of a TCP connection's way (TCP_INFO): round trips, and segments that were lost, of those sent. Other systems, and libraries
 * of C that are not found, give nothing. `_handle.fd` is Node's own and not documented; where it is missing nothing is measured either.
 */
import type { Socket } from "node:net";
import koffi from "koffi";

const IPPROTO_TCP = 6;
const TCP_INFO = 11;
/** Up to `tcpi_dsack_dups` of `struct tcp_info` (linux/tcp.h), whose fields never move. */
const INFO_BYTES = 220;
/** Kernels before 4.19 end before it. */
const INFO_BYTES_MIN = 160;
const RTT_MICROS_AT = 68;
const TOTAL_RETRANS_AT = 100;
const RTT_LEAST_MICROS_AT = 148;
const DATA_SEGS_OUT_AT = 156;
/** Sent again, and found to have arrived the first time: where machines are busy and nothing is lost, all of them. */
const NEEDLESS_AT = 216;
/** The kernel's word for "none yet". */
const NO_MICROS = 0xffff_ffff;
/** Fewer segments tell little of a loss of a percent. */
const SEGMENTS_MIN = 150;
/** Older figures count half with each look. */
const KEPT_SHARE = 0.5;

type GetSockOpt = (fd: number, level: number, name: number, value: Uint8Array, length: Uint32Array) => number;
let getsockopt: GetSockOpt | null | undefined;

function systemCall(): GetSockOpt | null {
  if (getsockopt !== undefined) return getsockopt;
  getsockopt = null;
  if (process.platform === "linux") {
    try {
      getsockopt = koffi.load("libc.so.6").func("int getsockopt(int, int, int, _Out_ uint8_t *, _Inout_ uint32_t *)");
    } catch {
      // musl and others: nothing is measured
    }
  }
  return getsockopt;
}

export class TcpPath {
  readonly #socket: Socket;
  #retransmitted = 0;
  #sent = 0;
  #lossShare: number | null = null;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  measured(): { readonly rttMs: number | null; readonly rttLeastMs: number | null; readonly lossShare: number | null } {
    const info = tcpInfo(this.#socket);
    if (info === null) return { rttMs: null, rttLeastMs: null, lossShare: null };
    const needless = info.byteLength > NEEDLESS_AT ? info.getUint32(NEEDLESS_AT, true) : 0;
    const retransmitted = Math.max(this.#retransmitted, info.getUint32(TOTAL_RETRANS_AT, true) - needless);
    const sent = info.getUint32(DATA_SEGS_OUT_AT, true);
    if (sent - this.#sent >= SEGMENTS_MIN) {
      const share = Math.min(1, (retransmitted - this.#retransmitted) / (sent - this.#sent));
      this.#lossShare = this.#lossShare === null ? share : KEPT_SHARE * this.#lossShare + (1 - KEPT_SHARE) * share;
      this.#retransmitted = retransmitted;
      this.#sent = sent;
    }
    const rttMs = info.getUint32(RTT_MICROS_AT, true) / 1_000;
    const least = info.getUint32(RTT_LEAST_MICROS_AT, true);
    const rttLeastMs = least === 0 || least === NO_MICROS ? null : least / 1_000;
    return { rttMs: rttMs > 0 ? rttMs : null, rttLeastMs, lossShare: this.#lossShare };
  }
}

function tcpInfo(socket: Socket): DataView | null {
  const call = systemCall();
  const fd = descriptor(socket);
  if (call === null || fd === null) return null;
  const info = new Uint8Array(INFO_BYTES);
  const length = new Uint32Array([INFO_BYTES]);
  if (call(fd, IPPROTO_TCP, TCP_INFO, info, length) !== 0) return null;
  const filled = Math.min(INFO_BYTES, length[0] ?? 0);
  return filled < INFO_BYTES_MIN ? null : new DataView(info.buffer, 0, filled);
}

function descriptor(socket: Socket): number | null {
  const handle: unknown = Reflect.get(socket, "_handle");
  if (typeof handle !== "object" || handle === null) return null;
  const fd: unknown = Reflect.get(handle, "fd");
  return typeof fd === "number" && fd >= 0 ? fd : null;
}
