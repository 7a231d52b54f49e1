/**
 * The providers of this grid: kept in the store, held in memory with their health, and asked through the upstream port. To the rest of the
 * coordinator it is the `Cloud`; to the operator's API it is where providers are added, changed, probed and removed.
 */
import { assert } from "../../domain/assert.ts";
import type { ModelId } from "../../domain/ids.ts";
import type { ProviderAbilities, ProviderModel, ProviderSpec } from "../../domain/provider.ts";
import { type Outcome, ok, refuse } from "../../domain/refusal.ts";
import type { Clock } from "../../ports/clock.ts";
import type {
  Cloud,
  CloudEvent,
  CloudHealth,
  CloudOffer,
  CloudProviderView,
  CloudRequest,
  CloudRun,
} from "../../ports/cloud.ts";
import type { CloudUpstream, UpstreamEvent, UpstreamFailure } from "../../ports/cloud-upstream.ts";
import type { Log } from "../../ports/log.ts";
import type { ProviderStore } from "../../ports/store.ts";
import { type ProviderNumbers, ProviderSeat, type SeatRun } from "./provider-seat.ts";

/** Each is looked through for every request that may use the cloud. */
export const PROVIDERS_MAX = 256;

export interface CloudDeskPorts {
  readonly providers: ProviderStore;
  readonly upstream: CloudUpstream;
  readonly clock: Clock;
  readonly log: Log;
}

export class CloudDesk implements Cloud {
  readonly #ports: CloudDeskPorts;
  /** In the order of ids. */
  #seats: ReadonlyMap<string, ProviderSeat> = new Map();
  /** One change of the list at a time, so that memory and store say the same. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(ports: CloudDeskPorts) {
    this.#ports = ports;
  }

  /** Takes what the store holds. */
  async start(): Promise<void> {
    const { providers, clock } = this.#ports;
    this.#seats = sorted((await providers.list()).map((spec) => new ProviderSeat(spec, clock)));
  }

  list(): readonly CloudProviderView[] {
    return [...this.#seats.values()].map((seat) => this.#view(seat));
  }

  get(providerId: string): CloudProviderView | null {
    const seat = this.#seats.get(providerId);
    return seat === undefined ? null : this.#view(seat);
  }

  offers(modelId: ModelId): readonly CloudOffer[] {
    const offers: CloudOffer[] = [];
    for (const seat of this.#seats.values()) {
      const model = modelOf(seat.spec, modelId);
      if (model !== null && seat.has(modelId)) offers.push({ ...this.#view(seat), model });
    }
    return offers.sort((left, right) => Number(right.spec.isEnabled) - Number(left.spec.isEnabled));
  }

  run(request: CloudRequest, onEvent: (event: CloudEvent) => void): CloudRun {
    const seat = this.#seats.get(request.providerId);
    const model = seat === undefined ? null : modelOf(seat.spec, request.modelId);
    if (seat === undefined || model === null || !seat.spec.isEnabled) {
      const what =
        seat === undefined
          ? "there is no such provider"
          : model === null
            ? `it has no ${request.modelId}`
            : "it is disabled";
      return this.#refused(
        request.providerId,
        { failure: "unknown-model", message: what, retryAfterMs: null },
        onEvent,
      );
    }
    const begun = seat.begin(model, request);
    if ("failure" in begun) return this.#refused(request.providerId, begun, onEvent);
    return this.#call(seat, { begun, request }, (event) => {
      if (event.kind !== "limits" && event.kind !== "noticed") onEvent(event);
    });
  }

  /**
   * One run for an operator, whatever the provider's health and limits, and with abilities that may be others than those on record.
   * Null: there is no such provider.
   */
  probe(
    request: Omit<CloudRequest, "modelId"> & { readonly model: ProviderModel },
    onEvent: (event: UpstreamEvent) => void,
  ): CloudRun | null {
    const seat = this.#seats.get(request.providerId);
    if (seat === undefined) return null;
    return this.#call(seat, { begun: seat.beginProbe(request.model, request), request }, onEvent);
  }

  /** Adds a provider or changes one. Refuses an address where nothing may be sent. */
  async put(spec: ProviderSpec): Promise<Outcome<CloudProviderView>> {
    const problem = this.#ports.upstream.addressProblem(spec.baseUrl);
    if (problem !== null) return refuse("invalid-request", problem, { param: "baseUrl" });
    return this.#inTurn(async () => {
      const known = this.#seats.get(spec.providerId);
      if (known === undefined && this.#seats.size >= PROVIDERS_MAX) {
        return refuse("invalid-request", `there are ${PROVIDERS_MAX} providers already, and no more are kept`);
      }
      await this.#ports.providers.put(spec);
      known?.change(spec);
      const seat = known ?? new ProviderSeat(spec, this.#ports.clock);
      if (known === undefined) this.#seats = sorted([...this.#seats.values(), seat]);
      return ok(this.#view(seat));
    });
  }

  /** Changes one as it is then. Null: there is none of this name. */
  change(providerId: string, change: (spec: ProviderSpec) => ProviderSpec): Promise<CloudProviderView | null> {
    return this.#inTurn(async () => {
      const seat = this.#seats.get(providerId);
      if (seat === undefined) return null;
      const spec = change(seat.spec);
      await this.#ports.providers.put(spec);
      seat.change(spec);
      return this.#view(seat);
    });
  }

  /** What probing found, unless the model was changed meanwhile. */
  async setAbilities(
    providerId: string,
    { model, abilities }: { model: ProviderModel; abilities: ProviderAbilities },
  ): Promise<void> {
    const isIt = (one: ProviderModel) => one.modelId === model.modelId && one.upstreamModel === model.upstreamModel;
    await this.change(providerId, (spec) => ({
      ...spec,
      models: spec.models.map((one) => (isIt(one) ? { ...one, abilities } : one)),
    }));
  }

  /** Running requests go on. False: there was none of this name. */
  remove(providerId: string): Promise<boolean> {
    return this.#inTurn(async () => {
      const isRemoved = await this.#ports.providers.remove(providerId);
      this.#seats = sorted([...this.#seats.values()].filter(({ spec }) => spec.providerId !== providerId));
      return isRemoved;
    });
  }

  numbersOf(providerId: string): ProviderNumbers {
    const seat = this.#seats.get(providerId);
    assert(seat !== undefined, `${providerId} is a provider of this desk`);
    return seat.numbers();
  }

  /** For metrics, by provider id. */
  numbers(): ReadonlyMap<string, ProviderNumbers> {
    return new Map([...this.#seats].map(([providerId, seat]) => [providerId, seat.numbers()]));
  }

  #call(
    seat: ProviderSeat,
    { begun, request }: { begun: SeatRun; request: Omit<CloudRequest, "modelId"> },
    onEvent: (event: UpstreamEvent) => void,
  ): CloudRun {
    const { form, tokensMax, firstTokenMsMax, totalMsMax, isWhole = false } = request;
    const { providerId, baseUrl, credential } = seat.spec;
    const provider = { providerId, baseUrl, credential };
    let isOver = false;
    const running = this.#ports.upstream.call(
      { provider, model: begun.model, form, tokensMax, firstTokenMsMax, totalMsMax, isWhole },
      (event) => {
        if (event.kind === "limits") seat.hear(event.limits);
        else if (event.kind === "noticed") seat.noteOddity(event.what);
        else {
          isOver = event.kind === "end" || event.kind === "failed";
          const before = seat.breaker;
          seat.note(begun, event);
          if (event.kind === "failed") this.#ports.log.debug(failureFields(providerId, event), "cloud request failed");
          this.#logBreaker(seat, { before, event });
        }
        onEvent(event);
      },
    );
    return {
      cancel: () => {
        if (isOver) return;
        isOver = true;
        running.cancel();
        seat.cancel(begun);
      },
    };
  }

  #logBreaker(seat: ProviderSeat, { before, event }: { before: CloudHealth["breaker"]; event: CloudEvent }): void {
    const { log } = this.#ports;
    const { providerId } = seat.spec;
    if (seat.breaker === before) return;
    if (event.kind === "failed") log.warn(failureFields(providerId, event), "cloud provider left alone");
    else if (seat.breaker === "closed") log.info({ providerId }, "cloud provider back");
  }

  /** Told in a later turn, as every event is. */
  #refused(providerId: string, why: UpstreamFailure, onEvent: (event: CloudEvent) => void): CloudRun {
    let isOver = false;
    void Promise.resolve().then(() => {
      if (!isOver) onEvent({ ...why, kind: "failed", message: `provider ${providerId}: ${why.message}` });
    });
    return {
      cancel: () => {
        isOver = true;
      },
    };
  }

  #view(seat: ProviderSeat): CloudProviderView {
    const { spec } = seat;
    return { spec, health: seat.health(this.#ports.upstream.hasCredential(spec.credential)) };
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    // The next change waits its turn and has no part in this one's failure.
    this.#last = done.catch(() => null);
    return done;
  }
}

/** Without the provider's words: a refusal of a request may repeat the prompt. */
function failureFields(providerId: string, { failure, retryAfterMs }: UpstreamFailure) {
  return { providerId, failure, retryAfterMs };
}

function modelOf(spec: ProviderSpec, modelId: ModelId): ProviderModel | null {
  return spec.models.find((model) => model.modelId === modelId) ?? null;
}

function sorted(seats: readonly ProviderSeat[]): ReadonlyMap<string, ProviderSeat> {
  const idOf = ({ spec }: ProviderSeat) => spec.providerId;
  return new Map(
    [...seats].sort((left, right) => (idOf(left) < idOf(right) ? -1 : 1)).map((seat) => [idOf(seat), seat]),
  );
}
