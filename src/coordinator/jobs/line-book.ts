/**
 * The lines that run, by their request ids: how the gateway's parts are told that a request is a batch's line without being changed for it.
 * Dispatch is given the same request as background work; settlement holds anew for each run, and nothing for a line that is paid.
 */
import type { Dispatch, Generation, GenerationEvent, RequestTerms } from "../../domain/generation.ts";
import type { NodeId, RequestId } from "../../domain/ids.ts";
import { microUsd } from "../../domain/money.ts";
import type { Clock } from "../../ports/clock.ts";
import type { GatewaySettlement } from "../gateway/settlement-port.ts";

export interface RunningLine {
  /** Another one for each run of a request: a hold that was voided cannot be taken again. */
  readonly run: string;
  /** Its charge is in the books and its result was lost: it is run for the result only. */
  readonly isSettled: boolean;
  /** By the monotonic clock. */
  readonly endsAtMonoMs: number;
  readonly avoidedNodeIds: readonly NodeId[];
  /** It has a slot; called once for each attempt. */
  readonly onStarted: (nodeId: NodeId) => void;
  /** It waits for a slot again. */
  readonly onWaiting: () => void;
}

export class LineBook {
  readonly #lines = new Map<RequestId, RunningLine>();

  open(requestId: RequestId, line: RunningLine): { close(): void } {
    this.#lines.set(requestId, line);
    return { close: () => void this.#lines.delete(requestId) };
  }

  get(requestId: RequestId): RunningLine | null {
    return this.#lines.get(requestId) ?? null;
  }
}

/** Dispatch that takes the lines of the book as background work. */
export function backgroundDispatch(dispatch: Dispatch, book: LineBook, clock: Clock): Dispatch {
  const termsOf = (terms: RequestTerms, line: RunningLine): RequestTerms => {
    // A line has its batch's time, and waits for its start as long.
    const { startWithinMs: _, ...rest } = terms;
    const deadlineMs = Math.max(1, line.endsAtMonoMs - clock.monoMs());
    return { ...rest, isBackground: true, deadlineMs, avoidedNodeIds: line.avoidedNodeIds };
  };
  const outlook = dispatch.outlook?.bind(dispatch);
  return {
    ...(outlook === undefined ? {} : { outlook }),
    generate: (request, onEvent) => {
      const line = book.get(request.terms.requestId);
      if (line === null) return dispatch.generate(request, onEvent);
      const terms = termsOf(request.terms, line);
      return followed(line, (heard) => dispatch.generate({ ...request, terms }, heard), onEvent);
    },
    embed: async (request, signal) => {
      const line = book.get(request.terms.requestId);
      if (line === null) return await dispatch.embed(request, signal);
      const outcome = await dispatch.embed({ ...request, terms: termsOf(request.terms, line) }, signal);
      const last = outcome.attempts.at(-1);
      if (last !== undefined) line.onStarted(last.nodeId);
      return outcome;
    },
  };
}

function followed(
  line: RunningLine,
  start: (heard: (event: GenerationEvent) => void) => Generation,
  onEvent: (event: GenerationEvent) => void,
): Generation {
  return start((event) => {
    if (event.kind === "started") line.onStarted(event.nodeId);
    if (event.kind === "waiting") line.onWaiting();
    onEvent(event);
  });
}

/** Settlement that knows which requests are run again, and which of them are paid. */
export function lineSettlement(settlement: GatewaySettlement, book: LineBook): GatewaySettlement {
  const budgetLeft = settlement.budgetLeft?.bind(settlement);
  return {
    ...(budgetLeft === undefined ? {} : { budgetLeft }),
    hold: (request) => {
      const line = book.get(request.requestId);
      if (line === null) return settlement.hold(request);
      const { amountMicroUsd, ...rest } = request;
      return settlement.hold({
        ...rest,
        run: line.run,
        amountMicroUsd: line.isSettled ? microUsd(0) : amountMicroUsd,
      });
    },
    settle: (request) => settlement.settle(request),
    voidHold: (requestId) => settlement.voidHold(requestId),
    signedReceipt: (receiptId) => settlement.signedReceipt(receiptId),
    get publicKeyHex() {
      return settlement.publicKeyHex;
    },
    checkpoint: () => settlement.checkpoint(),
  };
}
