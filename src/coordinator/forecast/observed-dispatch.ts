/** Dispatch that tells the forecast of every request on its way in; a request with several choices counts once. */
import type { Dispatch, RequestTerms } from "../../domain/generation.ts";

export function observedDispatch(dispatch: Dispatch, onRequest: (terms: RequestTerms) => void): Dispatch {
  const outlook = dispatch.outlook?.bind(dispatch);
  return {
    ...(outlook === undefined ? {} : { outlook }),
    generate: (request, onEvent) => {
      if (request.choice === 0) onRequest(request.terms);
      return dispatch.generate(request, onEvent);
    },
    embed: (request, signal) => {
      onRequest(request.terms);
      return dispatch.embed(request, signal);
    },
  };
}
