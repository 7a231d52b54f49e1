/** How long a request may take, by its tier and its caller. */
import type { RequestTerms } from "../../../domain/generation.ts";
import type { GatewayOptions } from "../gateway-options.ts";
import type { AskedTerms } from "./asked-terms.ts";

/**
 * Flex waits for its start by a bound of its own, and is answered within the common one after that; the others wait and are answered
 * within the common one. A caller's deadline shortens, never lengthens.
 */
export function timeBounds(
  options: Pick<GatewayOptions, "requestMsMax" | "flexStartMsMax">,
  { tier, preferences }: AskedTerms,
): Pick<RequestTerms, "deadlineMs" | "startWithinMs"> {
  const { requestMsMax, flexStartMsMax } = options;
  const asked = preferences.deadlineMs ?? Number.POSITIVE_INFINITY;
  if (tier !== "flex") return { deadlineMs: Math.min(requestMsMax, asked) };
  const deadlineMs = Math.min(flexStartMsMax + requestMsMax, asked);
  return { deadlineMs, startWithinMs: Math.min(flexStartMsMax, deadlineMs) };
}
