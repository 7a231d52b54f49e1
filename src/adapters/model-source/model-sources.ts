/** The ModelSources port: hands each reference to the kind of source that it names. */
import type { Looking, ModelSources, ResolvedSource } from "../../ports/model-source.ts";
import { HttpsSource } from "./https-source.ts";
import { HubSource } from "./hub-source.ts";
import { resolveLocal } from "./local-source.ts";
import { FIRST_PATIENCE, PATIENCE, type Patience } from "./passing-fault.ts";
import { parseReference } from "./reference.ts";
import { type ResolvedAddress, SafeHttp } from "./safe-http.ts";
import type { SourceSettings } from "./source-settings.ts";

export interface NetModelSourcesOptions {
  readonly settings: SourceSettings;
  /** Instead of `PATIENCE`. */
  readonly patience?: Patience;
  /** Instead of `SILENT_MS_MAX`. */
  readonly silentMsMax?: number;
  /** Certificates to trust instead of the system's, in PEM. */
  readonly ca?: readonly string[];
  /** Instead of the system's resolver. */
  readonly resolveHost?: (host: string) => Promise<readonly ResolvedAddress[]>;
}

/** Without a byte for so long a connection is taken for dead. */
const SILENT_MS_MAX = 30_000;

export class NetModelSources implements ModelSources {
  readonly #endpoint: URL;
  readonly #hub: HubSource;
  readonly #https: HttpsSource;
  readonly #patience: Patience;
  readonly #firstPatience: Patience;

  constructor(options: NetModelSourcesOptions) {
    const { settings, patience = PATIENCE, silentMsMax = SILENT_MS_MAX, ca, resolveHost } = options;
    const http = new SafeHttp({
      proxy: settings.proxy,
      silentMsMax,
      ...(ca === undefined ? {} : { ca }),
      ...(resolveHost === undefined ? {} : { resolveHost }),
    });
    this.#endpoint = settings.endpoint;
    this.#patience = patience;
    this.#firstPatience = options.patience ?? FIRST_PATIENCE;
    this.#hub = new HubSource({ settings, http, patience });
    this.#https = new HttpsSource({ settings, http, patience });
  }

  async resolve(reference: string, signal: AbortSignal, looking: Looking = {}): Promise<ResolvedSource> {
    const { isFirst = false, onWait = () => undefined } = looking;
    const look = { signal, patience: isFirst ? this.#firstPatience : this.#patience, onWait };
    const parsed = parseReference(reference, this.#endpoint);
    switch (parsed.kind) {
      case "hf":
        return await this.#hub.resolve(parsed, look);
      case "https":
        return await this.#https.resolve(parsed, look);
      case "local":
        return await resolveLocal(parsed.path);
    }
  }
}
