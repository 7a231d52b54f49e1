/**
 * Turns the agent in whose process it is loaded (`node --import`) hostile at SIGUSR2: its stages link, pulse, and do nothing for anybody. What it was before
 * comes back with the next SIGUSR2. `HOSTILE_STAGE` says how:
 *
 *     swallows    its engines take what comes and do nothing of it: in the middle of a chain nothing goes on, at its end nothing is drawn
 *     no-credit   it works, and tells the stage before that it took nothing
 */
import { LlamaStageEngineHost } from "../../src/adapters/engine-llama/stage-host.ts";
import { StageWire } from "../../src/agent/stages/stage-wire.ts";
import type { SequenceId } from "../../src/domain/chain.ts";
import type { StageEngine } from "../../src/ports/stage-engine.ts";

const how = process.env["HOSTILE_STAGE"];
let isHostile = false;
process.on("SIGUSR2", () => {
  isHostile = !isHostile;
});

if (how === "swallows") {
  const { loadStage } = LlamaStageEngineHost.prototype;
  LlamaStageEngineHost.prototype.loadStage = async function load(...args) {
    return swallowing(await loadStage.apply(this, args));
  };
}
if (how === "no-credit") {
  const { send } = StageWire.prototype;
  StageWire.prototype.send = function quiet(message) {
    return isHostile && message.type === "credit" ? 0 : send.call(this, message);
  };
}

function swallowing(engine: StageEngine): StageEngine {
  const ends = new Map<SequenceId, number>();
  const { submit, held } = engine;
  return Object.assign(engine, {
    submit: (...[pass]: Parameters<StageEngine["submit"]>) => {
      if (isHostile) ends.set(pass.sequence, pass.start + pass.count);
      else submit.call(engine, pass);
    },
    held: (sequence: SequenceId) => (isHostile ? ends.get(sequence) : undefined) ?? held.call(engine, sequence),
  });
}
