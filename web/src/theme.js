// Dark, light, or as the system has it. Kept in the browser; it is no secret.

import {device} from "./shelf.js";
import {cell} from "./view.js";

const KEY = "upkeep.theme";
const kept = device.read(KEY);

export const theme = cell(["dark", "light"].includes(kept) ? kept : "system");

function show() {
  const {documentElement: root} = document;
  if (theme.get() === "system") delete root.dataset.theme;
  else root.dataset.theme = theme.get();
  dispatchEvent(new Event("upkeep-theme"));
}

theme.watch(() => {
  if (theme.get() === "system") device.drop(KEY);
  else device.write(KEY, theme.get());
  show();
});
show();

export function nextTheme() {
  const order = ["system", "light", "dark"];
  theme.set(order[(order.indexOf(theme.get()) + 1) % order.length]);
}
