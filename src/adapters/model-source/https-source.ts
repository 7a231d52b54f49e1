/**
 * A model at an address: one GGUF file, or the first of a split set whose others lie beside it. The operator named one host, so bytes come from
 * that host only: a redirect to another one is refused, and he can name the other address himself.
 */
import type { IncomingHttpHeaders } from "node:http";
import { isIP } from "node:net";
import { FallowError } from "../../domain/fault.ts";
import type { ResolvedSource } from "../../ports/model-source.ts";
import { addressKind } from "./address-rules.ts";
import { type Followed, follow, type Route, refused } from "./follow.ts";
import { namesOfSet, splitNameOf, suggestedIdOf } from "./gguf-names.ts";
import { type Look, PassingFault, type Patience, Tries } from "./passing-fault.ts";
import type { ModelReference } from "./reference.ts";
import { changed, checkMagic, RemoteFile } from "./remote-file.ts";
import { describeUrl, type SafeHttp, unsafe } from "./safe-http.ts";
import { isListedHost, type SourceSettings } from "./source-settings.ts";

type HttpsReference = Extract<ModelReference, { kind: "https" }>;

/** What the first look reads: enough to see a GGUF's beginning. */
const LOOK_BYTES = 16;

export interface HttpsSourceOptions {
  readonly settings: SourceSettings;
  readonly http: SafeHttp;
  readonly patience: Patience;
}

export class HttpsSource {
  readonly #options: HttpsSourceOptions;

  constructor(options: HttpsSourceOptions) {
    this.#options = options;
  }

  async resolve({ url, sha256 }: HttpsReference, look: Look): Promise<ResolvedSource> {
    const urls = urlsOfSet(url);
    if (sha256.length > 0 && sha256.length !== urls.length) {
      throw invalid(`${describeUrl(url)} has ${urls.length} files, and #sha256= names ${sha256.length} digests`);
    }
    const files: RemoteFile[] = [];
    for (const [at, one] of urls.entries()) files.push(await this.#file(one, sha256[at] ?? null, look));
    const [first] = urls;
    const digests = sha256.length === 0 ? "" : `#sha256=${sha256.join(",")}`;
    return {
      // What is signed and given to nodes names the place without the query, where signed addresses carry secrets.
      origin: { kind: "https", url: describeUrl(url) },
      pinned: `${(first ?? url).href}${digests}`,
      chosen: null,
      suggestedId: suggestedIdOf(nameOf(url)),
      licence: null,
      files,
    };
  }

  async #file(url: URL, sha256: string | null, look: Look): Promise<RemoteFile> {
    const { http, patience } = this.#options;
    const route = this.#route(url);
    const tries = new Tries(look.patience, look.onWait);
    for (;;) {
      try {
        const facts = await this.#look(url, route, look.signal);
        const { fileBytes, version, validator } = facts;
        const name = nameOf(url);
        const check = ({ response }: Followed) => {
          const met = validatorOf(response.headers);
          if (version === null || met.version === null || met.version === version) return;
          throw changed(url, name, `its entity tag or date was ${version} and is ${met.version}`);
        };
        return new RemoteFile({ url, name, fileBytes, sha256, version, validator, check }, { http, route, patience });
      } catch (thrown) {
        await tries.wait(thrown, look.signal);
      }
    }
  }

  /** A request for the first bytes, not HEAD: signed addresses are signed for GET. */
  async #look(url: URL, route: Route, signal: AbortSignal) {
    const headers = { range: `bytes=0-${LOOK_BYTES - 1}` };
    const { response, url: last } = await follow(this.#options.http, { url, headers, signal }, route);
    const { silentMsMax } = this.#options.http;
    const silence = setTimeout(() => response.destroy(), silentMsMax);
    try {
      for await (const piece of response) {
        checkMagic(Buffer.from(piece), last);
        break;
      }
      const total = /^bytes 0-\d{1,16}\/(\d{1,16})$/.exec(response.headers["content-range"] ?? "")?.[1];
      const bytes = response.statusCode === 206 ? total : response.headers["content-length"];
      if (bytes === undefined || !/^[1-9]\d{0,15}$/.test(bytes)) {
        const message = "does not tell how long the file is: a source must, so that its end is known";
        throw refused(`${describeUrl(last)} ${message}`, last);
      }
      return { fileBytes: Number(bytes), ...validatorOf(response.headers) };
    } catch (thrown) {
      signal.throwIfAborted();
      if (thrown instanceof FallowError) throw thrown;
      throw new PassingFault(`${last.host} sent nothing for ${silentMsMax / 1_000} s, or cut the connection`, {
        cause: thrown,
      });
    } finally {
      clearTimeout(silence);
      response.destroy();
    }
  }

  #route(url: URL): Route {
    const isNamed = this.#isNamedByOperator(url);
    return {
      token: null,
      start: { isTrustedHost: isNamed, isTokenSent: false },
      redirect: (from, to) => {
        if (from.protocol === "https:" && to.protocol !== "https:") {
          throw unsafe(`${from.host} leads from HTTPS to plain HTTP (${describeUrl(to)})`, to, { from: from.host });
        }
        if (to.host === url.host) return { isTrustedHost: isNamed, isTokenSent: false };
        const message = `${from.host} leads to another host, ${to.host}: if you trust it, add ${describeUrl(to)} instead`;
        throw unsafe(message, to, { from: from.host, to: to.host });
      },
      advice: ({ status }) =>
        status === 401 || status === 403
          ? ": it asks for a login; name an address that needs none (a signed one, or a file that you fetched yourself)"
          : status === 404
            ? ": check the address"
            : "",
    };
  }

  /** A private address in digits, or `localhost`, cannot be meant otherwise; a name that leads there has to be listed. */
  #isNamedByOperator(url: URL): boolean {
    const bare = url.hostname.replace(/^\[|\]$/g, "");
    if (isListedHost(url, this.#options.settings.privateHosts)) return true;
    return bare === "localhost" || (isIP(bare) !== 0 && addressKind(bare) === "private");
  }
}

function urlsOfSet(url: URL): readonly URL[] {
  const name = nameOf(url);
  const split = splitNameOf(name);
  if (split === null) return [url];
  const names = namesOfSet(split);
  if (split.index !== 1) throw invalid(`${name} is file ${split.index} of a set: name the first, ${names[0]}`);
  return names.map((one) => {
    const beside = new URL(url);
    beside.pathname = beside.pathname.replace(/[^/]*$/, encodeURIComponent(one));
    return beside;
  });
}

function nameOf(url: URL): string {
  const last = url.pathname.split("/").at(-1) ?? "";
  let name = last;
  try {
    name = decodeURIComponent(last);
  } catch {
    // an address with a broken escape keeps it in its name
  }
  return /\.gguf$/i.test(name) ? name : `${name === "" ? "model" : name}.gguf`;
}

/** RFC 9110: only a strong tag or a date may stand in `If-Range`. */
function validatorOf(headers: IncomingHttpHeaders): {
  readonly version: string | null;
  readonly validator: string | null;
} {
  const { etag } = headers;
  const date = headers["last-modified"];
  if (etag !== undefined && !etag.startsWith("W/")) return { version: etag, validator: etag };
  return { version: etag ?? date ?? null, validator: etag === undefined ? (date ?? null) : null };
}

function invalid(message: string): FallowError {
  return new FallowError("model-source-invalid", message);
}
