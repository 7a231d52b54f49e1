/** `fallow engine …`, and the option with which agents are told which engine to use. */
import { Argument, type Command, Option } from "commander";
import { ENGINE_WISHES } from "../agent/devices/choose-variant.ts";
import type { EngineVariant } from "../domain/hardware.ts";
import { withCommonOptions } from "./command-options.ts";

export function engineOption(): Option {
  return new Option("--engine <variant>", "engine to use; auto takes the GPU's and installs it, or else the CPU's")
    .env("FALLOW_ENGINE")
    .choices(ENGINE_WISHES)
    .default("auto");
}

export function addEngineCommands(program: Command): void {
  const engine = program.command("engine").description("list, install or remove the engine's variants for GPUs");
  withCommonOptions(engine.command("list", { isDefault: true }).description("list the engine's variants"), {
    isClient: false,
  }).action(async (options) => {
    const { listEngines } = await import("./commands/engine.ts");
    await listEngines(options);
  });
  const variant = () => new Argument("<variant>", "variant").choices(ENGINE_WISHES.filter((wish) => wish !== "auto"));
  withCommonOptions(
    engine
      .command("install")
      .description("fetch a variant through npm, against its pinned digest")
      .addArgument(variant()),
    { isClient: false },
  ).action(async (name: EngineVariant, options) => {
    const { installEngine } = await import("./commands/engine.ts");
    await installEngine(name, options);
  });
  withCommonOptions(engine.command("remove").description("remove a variant from the home").addArgument(variant()), {
    isClient: false,
  }).action(async (name: EngineVariant, options) => {
    const { removeEngine } = await import("./commands/engine.ts");
    await removeEngine(name, options);
  });
}
