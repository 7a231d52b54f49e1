/**
 * Connects to a coordinator and makes sure who answers before a byte of ours is sent. There is no certificate authority
 * between strangers' machines: the join code brings the SHA-256 of the one certificate that must be met, which is stronger
 * than any authority and also works by bare address. Without TLS only this machine itself may be called.
 */
import { connect as connectPlain, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { FallowError } from "../../domain/fault.ts";
import type { LinkTarget } from "../../ports/link.ts";
import { certificateSha256 } from "./certificate-sha256.ts";
import { isLoopback } from "./loopback.ts";

/** Name lookup, TCP and TLS together; a WAN round trip is below 0.5 s, and a lost SYN is repeated after 1 and 3 s. */
const CONNECT_MS_MAX = 10_000;

export interface PinnedSocket {
  readonly socket: Socket;
  /** The certificate that was met, or `loopback`: see `Link.channelBinding`. */
  readonly channelBinding: string;
}

/** Rejects with a `FallowError`: `link-unreachable`, `link-insecure`, `link-fingerprint-mismatch`. */
export async function connectPinned(target: LinkTarget, signal: AbortSignal): Promise<PinnedSocket> {
  const url = new URL(target.url);
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const isSecure = url.protocol === "https:";
  if (!isSecure && (url.protocol !== "http:" || !isLoopback(host))) {
    throw new FallowError(
      "link-insecure",
      `${target.url} is refused: beyond this machine the address starts with https://`,
      {
        data: { url: target.url },
      },
    );
  }
  if (isSecure && target.certificateSha256 === null) {
    throw new FallowError(
      "link-insecure",
      `${target.url} is refused: no certificate fingerprint is known for it; join with a code`,
      {
        data: { url: target.url },
      },
    );
  }
  const port = url.port === "" ? (isSecure ? 443 : 80) : Number(url.port);
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(CONNECT_MS_MAX)]);
  return isSecure
    ? await openTls({ host, port, target, signal: deadline })
    : await openPlain({ host, port, target, signal: deadline });
}

interface Opening {
  readonly host: string;
  readonly port: number;
  readonly target: LinkTarget;
  readonly signal: AbortSignal;
}

async function openPlain(opening: Opening): Promise<PinnedSocket> {
  const { host, port, target } = opening;
  const socket = await opened(connectPlain({ host, port, noDelay: true }), "connect", opening);
  if (!isLoopback(socket.remoteAddress)) {
    socket.destroy();
    throw new FallowError(
      "link-insecure",
      `${target.url} leads to ${socket.remoteAddress}, which is not this machine: use https://`,
      {
        data: { url: target.url },
      },
    );
  }
  return { socket, channelBinding: "loopback" };
}

async function openTls(opening: Opening): Promise<PinnedSocket> {
  const { host, port, target } = opening;
  const connecting = connectTls({
    host,
    port,
    // The pin below takes the place of a certificate authority and of the name check.
    rejectUnauthorized: false,
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ALPNProtocols: ["http/1.1"],
    minVersion: "TLSv1.3",
  });
  const socket = await opened(connecting, "secureConnect", opening);
  const met = certificateSha256(socket.getPeerX509Certificate());
  if (met === null || met !== target.certificateSha256) {
    socket.destroy();
    throw new FallowError(
      "link-fingerprint-mismatch",
      `${target.url} shows the certificate ${met ?? "(none)"}, not ${target.certificateSha256}: ` +
        "either somebody sits in between or the grid was set up anew; ask its operator for a new join code",
      { data: { url: target.url, met, wanted: target.certificateSha256 } },
    );
  }
  socket.setNoDelay(true);
  return { socket, channelBinding: met };
}

function opened<S extends Socket>(socket: S, event: "connect" | "secureConnect", opening: Opening): Promise<S> {
  const { signal, target } = opening;
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown) => {
      signal.removeEventListener("abort", onAbort);
      socket.destroy();
      reject(
        new FallowError("link-unreachable", `${target.url} cannot be reached`, { data: { url: target.url }, cause }),
      );
    };
    const onAbort = () => fail(signal.reason);
    const onEnd = () => fail(new Error("the other end closed the connection during the set-up"));
    socket.once("error", fail);
    socket.once("close", onEnd);
    socket.once(event, () => {
      signal.removeEventListener("abort", onAbort);
      socket.off("error", fail);
      socket.off("close", onEnd);
      resolve(socket);
    });
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
}
