/** The gateway of the fixture with cloud providers: the real desk and adapter, asked over HTTP at a server that a test scripts. */

import { SystemClock } from "../../src/adapters/clock-system/system-clock.ts";
import { CloudDesk } from "../../src/coordinator/cloud/cloud-desk.ts";
import { modelId } from "../../src/domain/ids.ts";
import type { ProviderAbilities, ProviderModel, ProviderSpec } from "../../src/domain/provider.ts";
import type { Tokenizer } from "../../src/ports/tokenizer.ts";
import { GatewayFixture } from "./gateway-fixture.ts";
import { type HostileUpstream, startHostileUpstream } from "./hostile-upstream.ts";
import { aModel, aSpec, keptLog, openUpstreamLab, type UpstreamLab } from "./upstream-lab.ts";

/** Dearer than the grid's own in both kinds, so that it shows which was charged. */
export const CLOUD_PRICE = { inputMicroUsdPerMtok: 3_000_000, outputMicroUsdPerMtok: 5_000_000 };
export const CLOUD_COST = { inputMicroUsdPerMtok: 2_000_000, outputMicroUsdPerMtok: 4_000_000 };

export interface CloudGateway {
  readonly grid: GatewayFixture;
  readonly desk: CloudDesk;
  readonly server: HostileUpstream;
  /** Adds a provider at the server, `acme` if not told otherwise. */
  offer(
    fields?: Partial<ProviderSpec>,
    model?: Partial<ProviderModel>,
    abilities?: Partial<ProviderAbilities>,
  ): Promise<void>;
  close(): Promise<void>;
}

export async function openCloudGateway(tokenizer: Tokenizer): Promise<CloudGateway> {
  const server = await startHostileUpstream();
  const lab: UpstreamLab = openUpstreamLab();
  let desk: CloudDesk | null = null;
  const grid = await GatewayFixture.open(tokenizer, {}, (store) => {
    desk = new CloudDesk({
      providers: store.providers,
      upstream: lab.upstream,
      clock: new SystemClock(),
      log: keptLog([]),
    });
    return desk;
  });
  if (desk === null) throw new Error("the fixture makes its cloud");
  const made: CloudDesk = desk;
  return {
    grid,
    desk: made,
    server,
    offer: async (fields = {}, model = {}, abilities = {}) => {
      const offered = {
        ...aModel(abilities),
        modelId: modelId("tiny"),
        price: CLOUD_PRICE,
        cost: CLOUD_COST,
        ...model,
      };
      const put = await made.put(aSpec(server.baseUrl, { models: [offered], ...fields }));
      if (!put.ok) throw new Error(put.reason.message);
    },
    close: async () => {
      await grid.close();
      await lab.close();
      await server.stop();
    },
  };
}
