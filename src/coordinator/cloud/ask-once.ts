/** One small question to a provider for an operator: collected until its end, with how long it took. */
import type { ProviderModel } from "../../domain/provider.ts";
import type { Clock } from "../../ports/clock.ts";
import type { CloudForm, CloudUsage } from "../../ports/cloud.ts";
import type { UpstreamFailure } from "../../ports/cloud-upstream.ts";
import type { CloudDesk } from "./cloud-desk.ts";
import type { ProbeAnswer } from "./probe-model.ts";

/** A person waits: a provider that takes longer is no use for overflow either. */
const FIRST_TOKEN_MS_MAX = 20_000;
const TOTAL_MS_MAX = 30_000;

export interface TimedAnswer extends ProbeAnswer {
  /** From the call; null when nothing was said. */
  readonly firstTokenMs: number | null;
  readonly totalMs: number;
}

export interface Question {
  readonly providerId: string;
  readonly model: ProviderModel;
  readonly form: CloudForm;
  readonly tokensMax: number;
}

/** Resolves with what came, also when it failed. `signal` ends it as failed with `cancelled`. */
export function askOnce(
  question: Question,
  { desk, clock, signal }: { desk: CloudDesk; clock: Clock; signal: AbortSignal },
): Promise<TimedAnswer> {
  return new Promise((resolve) => {
    const startedAtMs = clock.monoMs();
    const calls: { name: string; arguments: string }[] = [];
    let text = "";
    let firstTokenMs: number | null = null;
    let hasLogprobs = false;
    let isStream = true;
    const close = (end: { usage: CloudUsage | null; failure: UpstreamFailure | null }) => {
      signal.removeEventListener("abort", onAbort);
      resolve({ text, calls, hasLogprobs, isStream, firstTokenMs, totalMs: clock.monoMs() - startedAtMs, ...end });
    };
    const limits = { firstTokenMsMax: FIRST_TOKEN_MS_MAX, totalMsMax: TOTAL_MS_MAX };
    const run = desk.probe({ ...question, ...limits }, (event) => {
      if (event.kind === "text" || event.kind === "reasoning" || event.kind === "tool-call") {
        firstTokenMs ??= clock.monoMs() - startedAtMs;
      }
      if (event.kind === "text") text += event.text;
      else if (event.kind === "tool-call") calls.push({ name: event.name, arguments: "" });
      else if (event.kind === "tool-arguments") {
        const call = calls[event.index];
        if (call !== undefined) call.arguments += event.text;
      } else if (event.kind === "noticed") {
        hasLogprobs ||= event.what === "logprobs";
        isStream &&= event.what !== "no-stream";
      } else if (event.kind === "end") close({ usage: event.usage, failure: null });
      else if (event.kind === "failed") {
        const { failure, message, retryAfterMs } = event;
        close({ usage: null, failure: { failure, message, retryAfterMs } });
      }
    });
    const onAbort = () => {
      run?.cancel();
      close({ usage: null, failure: { failure: "cancelled", message: "the caller left", retryAfterMs: null } });
    };
    signal.addEventListener("abort", onAbort);
    if (run === null) {
      const message = `there is no provider ${question.providerId}`;
      close({ usage: null, failure: { failure: "unknown-model", message, retryAfterMs: null } });
    } else if (signal.aborted) onAbort();
  });
}
