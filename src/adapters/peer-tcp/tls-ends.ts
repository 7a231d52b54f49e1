/**
 * TLS 1.3 between two nodes, both with a certificate of their own key. No authority is asked (`rejectUnauthorized: false` switches only that
 * off): the handshake's CertificateVerify proves that each end holds the key that it shows, and the key is what is compared afterwards.
 */
import { constants } from "node:crypto";
import { connect, type Socket } from "node:net";
import { connect as connectTls, createSecureContext, type SecureContext, TLSSocket } from "node:tls";
import type { HostPort } from "../../domain/peer.ts";
import { certifiedKeyHex, type IdentityCertificate } from "./identity-certificate.ts";

/** From the accepted socket to the proved key: two round trips, and a lost packet is sent again after a second. */
export const HANDSHAKE_MS_MAX = 5_000;
/** Dead ends behind a NAT are noticed by pings; this ends what nobody pings. */
const KEEP_ALIVE_MS = 30_000;
const ALPN = "fallow-peer/1";

export interface Proved {
  readonly socket: TLSSocket;
  readonly transport: Socket;
  readonly peerKeyHex: string;
}

export function secureContextOf(identity: IdentityCertificate): SecureContext {
  return createSecureContext({
    cert: identity.certificatePem,
    key: identity.privateKeyPem,
    minVersion: "TLSv1.3",
    // The one that hardware does fastest leads; all of TLS 1.3 are strong.
    ciphers: "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384",
    // A resumed session would not prove the key again.
    secureOptions: constants.SSL_OP_NO_TICKET,
  });
}

/** Rejects with what went wrong; nothing is left open then. */
export function dialTls(address: HostPort, context: SecureContext, signal: AbortSignal): Promise<Proved> {
  const transport = connect({ host: address.host, port: address.port, noDelay: true });
  const begin = () =>
    connectTls({ socket: transport, secureContext: context, rejectUnauthorized: false, ALPNProtocols: [ALPN] });
  return new Promise((resolve, reject) => {
    const refuse = (cause: unknown) => {
      signal.removeEventListener("abort", onAbort);
      transport.destroy();
      reject(cause instanceof Error ? cause : new Error(String(cause)));
    };
    const onAbort = () => refuse(signal.reason);
    if (signal.aborted) return onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    transport.once("error", refuse);
    transport.once("connect", () => {
      const socket = begin();
      proved(socket, transport, "secureConnect").then((done) => {
        signal.removeEventListener("abort", onAbort);
        transport.off("error", refuse);
        resolve(done);
      }, refuse);
    });
  });
}

/** The accepting end. Rejects when the other proves no Ed25519 key in time. */
export function acceptTls(transport: Socket, context: SecureContext): Promise<Proved> {
  const socket = new TLSSocket(transport, {
    isServer: true,
    secureContext: context,
    requestCert: true,
    rejectUnauthorized: false,
    ALPNProtocols: [ALPN],
  });
  return proved(socket, transport, "secure");
}

function proved(socket: TLSSocket, transport: Socket, event: "secure" | "secureConnect"): Promise<Proved> {
  transport.setNoDelay(true);
  transport.setKeepAlive(true, KEEP_ALIVE_MS);
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      socket.off("error", refuse);
      socket.off("close", onClose);
      socket.off(event, onSecure);
    };
    const refuse = (error: Error) => {
      end();
      // What still fails on the way out has been told already.
      socket.on("error", () => undefined);
      socket.destroy();
      transport.destroy();
      reject(error);
    };
    const onClose = () => refuse(new Error("the other end closed the connection during the handshake"));
    const onSecure = () => {
      const peerKeyHex = certifiedKeyHex(socket.getPeerX509Certificate());
      if (peerKeyHex === null) return refuse(new Error("the other end showed no Ed25519 certificate"));
      if (socket.alpnProtocol !== ALPN) return refuse(new Error(`the other end does not speak ${ALPN}`));
      end();
      resolve({ socket, transport, peerKeyHex });
    };
    const timer = setTimeout(() => refuse(new Error(`no handshake within ${HANDSHAKE_MS_MAX} ms`)), HANDSHAKE_MS_MAX);
    timer.unref();
    socket.on("error", refuse);
    socket.once("close", onClose);
    socket.once(event, onSecure);
  });
}
