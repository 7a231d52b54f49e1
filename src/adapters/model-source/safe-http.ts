/**
 * One HTTP request to a source of models. The address is checked when the connection is made, on what the name resolved to then, and that
 * very address is connected to: a name that changes its mind between check and use gains nothing. `node:https` instead of `fetch`, because
 * only there the look-up is ours.
 */
import { lookup as systemLookup } from "node:dns/promises";
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { isIP, type LookupFunction } from "node:net";
import { FallowError } from "../../domain/fault.ts";
import { addressKind } from "./address-rules.ts";
import { PassingFault } from "./passing-fault.ts";

export interface ResolvedAddress {
  readonly address: string;
  readonly family: number;
}

export interface SafeHttpOptions {
  /** Certificates to trust instead of the system's, in PEM. */
  readonly ca?: readonly string[];
  readonly proxy: Readonly<Record<string, string>> | null;
  /** Until the answer's head, and without a byte of its body. */
  readonly silentMsMax: number;
  readonly resolveHost?: (host: string) => Promise<readonly ResolvedAddress[]>;
}

export interface Ask {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** The operator named the host himself: it may be in a private network, and speak plain HTTP. */
  readonly isTrustedHost: boolean;
  readonly signal: AbortSignal;
}

/** Signed addresses of content networks come in headers of some KiB. */
const HEADER_BYTES_MAX = 65_536;
/** What OpenSSL and Node call certificates that do not fit: trying again does not help. */
const CERTIFICATE = /^(CERT_|ERR_TLS_CERT|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_SSL_)/;
const USER_AGENT = "fallow";

export class SafeHttp {
  readonly #options: SafeHttpOptions;

  constructor(options: SafeHttpOptions) {
    this.#options = options;
  }

  get silentMsMax(): number {
    return this.#options.silentMsMax;
  }

  /** Resolves with the head; the body flows when it is read. Rejects: `PassingFault`, or a `FallowError` that is final. */
  async get(ask: Ask): Promise<IncomingMessage> {
    const { url, headers, signal, isTrustedHost } = ask;
    const isPlain = url.protocol === "http:";
    if (isPlain && !isTrustedHost) {
      const message = `${describeUrl(url)} is plain HTTP, which anybody in between can change: use https://, or add ${url.host} to FALLOW_PRIVATE_SOURCES`;
      throw unsafe(message, url);
    }
    if (!isPlain && url.protocol !== "https:")
      throw unsafe(`${url.protocol} is no way to fetch a model: use https://`, url);
    const bare = url.hostname.replace(/^\[|\]$/g, "");
    if (isIP(bare) !== 0) this.#check(bare, ask);
    const proxied = this.#agentFor(url);
    const silentMs = this.#options.silentMsMax;
    try {
      return await new Promise<IncomingMessage>((resolve, reject) => {
        const request = (isPlain ? httpRequest : httpsRequest)(url, {
          method: "GET",
          headers: { "user-agent": USER_AGENT, "accept-encoding": "identity", ...headers },
          maxHeaderSize: HEADER_BYTES_MAX,
          signal,
          ...(proxied === null ? { agent: false, lookup: this.#lookup(ask) } : { agent: proxied }),
          ...(this.#options.ca === undefined ? {} : { ca: [...this.#options.ca] }),
        });
        const timer = setTimeout(
          () => request.destroy(new PassingFault(`${url.host} said nothing for ${silentMs / 1_000} s`)),
          silentMs,
        );
        request.once("error", (cause) => {
          clearTimeout(timer);
          reject(cause);
        });
        request.once("response", (response) => {
          clearTimeout(timer);
          // The reader meets it as a rejection; without a listener one that comes before the first read would end the process.
          response.on("error", () => undefined);
          resolve(response);
        });
        request.end();
      });
    } catch (thrown) {
      signal.throwIfAborted();
      throw connectionFault(thrown, url);
    }
  }

  #lookup(ask: Ask): LookupFunction {
    return (host, options, callback) => {
      this.#resolve(host).then(
        (addresses) => {
          const [first] = addresses;
          try {
            for (const { address } of addresses) this.#check(address, ask);
          } catch (thrown) {
            callback(asError(thrown), "");
            return;
          }
          if (first === undefined) callback(new PassingFault(`${host} has no address`), "");
          else if (options.all === true) callback(null, [...addresses]);
          else callback(null, first.address, first.family);
        },
        (thrown: unknown) => callback(asError(thrown), ""),
      );
    };
  }

  #resolve(host: string): Promise<readonly ResolvedAddress[]> {
    return this.#options.resolveHost?.(host) ?? systemLookup(host, { all: true });
  }

  #check(address: string, { url, isTrustedHost }: Ask): void {
    const kind = addressKind(address);
    if (kind === "public" || (kind === "private" && isTrustedHost)) return;
    const what = kind === "private" ? "a private address" : "an address that no model may come from";
    const fix = kind === "private" ? `; if that is your own mirror, add ${url.host} to FALLOW_PRIVATE_SOURCES` : "";
    throw unsafe(`${url.hostname} is ${address}, ${what}${fix}`, url, { address });
  }

  /** Null for a direct connection. Behind a proxy it is the proxy that resolves names and decides where it goes. */
  #agentFor(url: URL): HttpAgent | HttpsAgent | null {
    const { proxy } = this.#options;
    if (proxy === null || isExempt(url.hostname, proxy["NO_PROXY"] ?? proxy["no_proxy"] ?? "")) return null;
    const { NO_PROXY: _upper, no_proxy: _lower, ...proxyEnv } = proxy;
    const name = url.protocol === "https:" ? "https_proxy" : "http_proxy";
    if (proxyEnv[name] === undefined && proxyEnv[name.toUpperCase()] === undefined) return null;
    return url.protocol === "https:" ? new HttpsAgent({ proxyEnv }) : new HttpAgent({ proxyEnv });
  }
}

/** Without the query: signed addresses carry secrets there. */
export function describeUrl(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

export function unsafe(message: string, url: URL, more: Readonly<Record<string, unknown>> = {}): FallowError {
  return new FallowError("model-source-unsafe", message, { data: { url: describeUrl(url), ...more } });
}

function connectionFault(thrown: unknown, url: URL): Error {
  if (thrown instanceof FallowError || thrown instanceof PassingFault) return thrown;
  const code = thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" ? thrown.code : "";
  if (CERTIFICATE.test(code)) {
    const message = `the certificate of ${url.host} is not trusted (${code}): give its authority's with NODE_EXTRA_CA_CERTS`;
    return new FallowError("model-source-unreachable", message, {
      data: { url: describeUrl(url), code },
      cause: thrown,
    });
  }
  if (NO_NAME.test(code)) {
    return new PassingFault(
      `no address is known for the name ${url.hostname} (${code}): it is misspelt, or there is no network`,
    );
  }
  return new PassingFault(`${url.host} cannot be reached${code === "" ? "" : ` (${code})`}`, { cause: thrown });
}

/** What a resolver answers that found nothing, or did not answer. */
const NO_NAME = /^(ENOTFOUND|EAI_AGAIN|ENODATA|ESERVFAIL)$/;

function isExempt(host: string, noProxy: string): boolean {
  return noProxy
    .split(",")
    .map((one) =>
      one
        .trim()
        .toLowerCase()
        .replace(/^\*?\./, ""),
    )
    .some((one) => one === "*" || (one !== "" && (host === one || host.endsWith(`.${one}`))));
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
