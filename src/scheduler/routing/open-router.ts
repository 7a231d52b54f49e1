/** Routers by name. */
import { absurd } from "../../domain/assert.ts";
import { CompletionRouter } from "./completion-router.ts";
import { HelixRouter } from "./helix-router.ts";
import { ParallaxRouter, PetalsRouter } from "./path-routers.ts";
import type { Router, RouterName, RouterSettings } from "./router.ts";
import { RandomRouter, ShortestQueueRouter } from "./simple-routers.ts";
import { SwarmRouter } from "./swarm-router.ts";

export function openRouter(name: RouterName, settings: RouterSettings): Router {
  switch (name) {
    case "ours":
      return new CompletionRouter(settings);
    case "helix":
      return new HelixRouter(settings);
    case "swarm":
      return new SwarmRouter(settings);
    case "random":
      return new RandomRouter(settings);
    case "shortest-queue":
      return new ShortestQueueRouter(settings);
    case "petals":
      return new PetalsRouter(settings);
    case "parallax":
      return new ParallaxRouter(settings);
    default:
      return absurd(name);
  }
}
