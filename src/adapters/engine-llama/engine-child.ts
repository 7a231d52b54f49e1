/** The process that holds one model. */
import { absurd } from "../../domain/assert.ts";
import { SHARED_SLOTS_LEAST } from "../../inference/batch-policy.ts";
import type { ChildCommand, ChildReport, LoadCommand } from "./child-protocol.ts";
import { endFatally, loadTeller, openLibrary, readyReport, serveParent } from "./child-start.ts";
import { EmbeddingQueue } from "./embedding-queue.ts";
import { EngineLoop } from "./engine-loop.ts";
import { loadModel } from "./loaded-model.ts";

interface Serving {
  readonly loop: EngineLoop;
  readonly embeddings: EmbeddingQueue;
}

let serving: Serving | null = null;
const { report } = serveParent<ChildCommand, ChildReport>((command) => {
  if (command.kind === "load") serving = load(command);
  else if (serving !== null) serve(serving, command);
});

function load(command: LoadCommand): Serving | null {
  const tell = loadTeller(report);
  const api = openLibrary(command, tell);
  if (api === null) return null;
  const result = loadModel(api, { ...command, onProgress: tell.progress });
  if (!result.ok) return tell.failed(result.code, result.message);
  const loaded = result.value;
  const hasRoomBeside = command.gpuLayers !== 0 && command.sequencesMax >= SHARED_SLOTS_LEAST;
  const loop = new EngineLoop(loaded, { queueMax: command.queueMax, hasRoomBeside, report, onFatal: endFatally });
  report(readyReport(api, loaded, { ...command, embeddingLength: api.embeddingLength(loaded.model) }));
  const submitChore: EngineLoop["submitChore"] = (chore) => loop.submitChore(chore);
  return { loop, embeddings: new EmbeddingQueue(loaded, { report, onFatal: endFatally, submitChore }) };
}

function serve({ loop, embeddings }: Serving, command: Exclude<ChildCommand, LoadCommand>): void {
  switch (command.kind) {
    case "generate":
      loop.submit(command);
      break;
    case "abort":
      embeddings.abort(command.key);
      loop.abort(command.key);
      break;
    case "embed":
      embeddings.submit(command);
      break;
    case "export": {
      const { key, tokenIds } = command;
      loop.submitChore(() => report({ kind: "exported", key, state: loop.slots.snapshot(tokenIds) }));
      break;
    }
    case "import": {
      const { key, state } = command;
      loop.submitChore(() => report({ kind: "imported", key, isAccepted: loop.slots.restore(state) }));
      break;
    }
    default:
      absurd(command);
  }
}
