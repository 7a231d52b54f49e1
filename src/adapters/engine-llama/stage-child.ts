/** The process that holds one stage, as `engine-child.ts` holds a whole model. Before it serves it has computed a few positions of its own. */
import { endFatally, loadTeller, openLibrary, readyReport, serveParent } from "./child-start.ts";
import { StageDecoder } from "./stage-decoder.ts";
import { StageLoop } from "./stage-loop.ts";
import type { StageCommand, StageLoadCommand, StageReport } from "./stage-protocol.ts";
import { checkStage } from "./stage-self-check.ts";

let loop: StageLoop | null = null;
const { report } = serveParent<StageCommand, StageReport>((command) => {
  if (command.kind === "load") loop = load(command);
  else for (const one of command.commands) loop?.take(one);
});

function load(command: StageLoadCommand): StageLoop | null {
  const tell = loadTeller(report);
  const api = openLibrary(command, tell);
  if (api === null) return null;
  const result = StageDecoder.load(api, { ...command, onProgress: tell.progress }, endFatally);
  if (!result.ok) return tell.failed(result.code, result.message);
  const decoder = result.value;
  const { failure, stateShape } = checkStage(decoder);
  if (failure !== null) return tell.failed("engine-self-test-failed", failure);
  report(readyReport(api, decoder.loaded, { ...command, embeddingLength: decoder.embeddingLength }));
  return new StageLoop(decoder, { wire: command.wire, stateShape, report });
}
